"""A small scraper: reads a gallery of workflow pages, keeps the valid records in SQLite, serves them as JSON.

settings.py   what can be set, from the environment
pages.py      HTML -> links and raw fields
records.py    raw fields -> a valid Workflow, or every reason why not
crawl.py      polite requests: pace, deadlines, retries, ETag
store.py      one SQLite database, one transaction per gallery page
web.py        /health and /
"""

__version__ = "1.0.0"
