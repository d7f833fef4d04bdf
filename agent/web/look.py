"""How the pages look: one style sheet, and a few lines of script that reading does not need.

All of it is inline, because nothing but /webhook and /health is served without a token; the policy names each
piece by its hash, so that no other script or style runs (R-UI-5).
"""

import base64
import hashlib

STYLE = """
:root{color-scheme:light dark;--ground:#f6f4ef;--card:#fffefb;--ink:#23272b;--soft:#5f666d;--line:#e5e1d8;
--good:#1a6e40;--warn:#875400;--bad:#a8231b;--run:#1c579f;--deep:#f1eee7}
@media (prefers-color-scheme:dark){:root{--ground:#101314;--card:#181c1e;--ink:#d9dcdd;--soft:#949ca2;
--line:#2a3033;--good:#6cc593;--warn:#dcaa55;--bad:#f08b80;--run:#82b3ee;--deep:#121617}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main,header,footer{max-width:56rem;margin:0 auto;padding:0 1rem}
header{display:flex;flex-wrap:wrap;gap:.1rem 1rem;align-items:baseline;padding-top:1.5rem}
p{margin:.35rem 0}
h1{font-size:1.3rem;margin:0;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:0}
h3{font-size:.85rem;font-weight:600;margin:1.4rem 0 .2rem;color:var(--soft)}
.soft,footer{color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}
.push{margin-left:auto}
.card{background:var(--card);border:1px solid var(--line);border-radius:.9rem;padding:1.1rem 1.25rem;margin:1rem 0}
.line{display:flex;flex-wrap:wrap;gap:.15rem .7rem;align-items:baseline}
.tone{font-weight:600}
.tone::before{display:inline-block;min-width:1.1em;margin-right:.25em;text-align:center}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}.run{color:var(--run)}.still{color:var(--soft)}
.tone.good::before{content:"\\2713"}.tone.warn::before{content:"!"}.tone.bad:not(:empty)::before{content:"\\2715"}
.tone.run::before{content:"\\2026"}.tone.still::before{content:"\\2013"}
.badge{border:1px solid currentcolor;border-radius:2rem;padding:0 .65rem 0 .45rem;font-size:.8rem;white-space:nowrap}
.note{border-left:4px solid;background:var(--deep);border-radius:.3rem .6rem .6rem .3rem;padding:.35rem .9rem;
margin:.8rem 0 0}
.note>*{color:var(--ink)}
code,pre{font:.875em/1.5 ui-monospace,monospace;overflow-wrap:anywhere}
.do{font-weight:600;user-select:all}.do span{display:inline-block}
pre{margin:.4rem 0;max-height:22rem;overflow:auto;white-space:pre-wrap}
ul.rows,ol.steps{list-style:none;margin:0;padding:0}
.rows>li{padding:.45rem 0;border-top:1px solid var(--line)}
.rows>li:first-child{border-top:0}
.rows{font-size:.925rem}
h2+.rows{margin-top:.4rem}
summary{cursor:pointer;padding:.15rem 0}
summary.line{list-style:none}
summary.line::-webkit-details-marker{display:none}
summary.line::before{content:"\\203a";color:var(--soft);width:.5em}
[open]>summary.line::before{transform:rotate(90deg)}
.steps{padding:.3rem 0 .3rem 1.2rem;font-size:.9rem}
.door{max-width:26rem;padding-top:12vh}
form{display:grid;gap:.9rem;margin-top:1rem}
label{display:grid;gap:.3rem;font-size:.9rem}
input,button{font:inherit;color:inherit;border:1px solid var(--soft);border-radius:.5rem;padding:.6rem .8rem;
background:var(--ground);min-width:0}
button{cursor:pointer;font-weight:600;background:var(--run);color:var(--ground);border-color:transparent}
#said:empty{display:none}
button.plain{border:0;padding:.3rem 0;margin-left:.6rem;background:none;font-weight:400;color:var(--soft);
text-decoration:underline}
:focus-visible{outline:2px solid var(--run);outline-offset:2px}
footer{padding-bottom:2rem}
@media (max-width:40rem){.push{margin-left:0;flex-basis:100%}.card{padding:1rem;margin:.8rem 0}
summary .push{padding-left:1.2rem}}
"""

LOGIN_SCRIPT = """
const say = text => { document.getElementById("said").textContent = text };
async function enter(token) {
  const answer = await fetch("/api/v1/session", {method: "POST", headers: {"Content-Type": "application/json"},
    body: JSON.stringify({token})});
  if (answer.ok) location.replace("/");
  else say(answer.status === 401 ? "This token is not known." : (await answer.json()).detail);
}
document.getElementById("enter").addEventListener("submit", event => {
  event.preventDefault();
  enter(document.getElementById("token").value.trim()).catch(() => say("The agent does not answer."));
});
function take() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  history.replaceState(null, "", "/");
  enter(given).catch(() => say("The agent does not answer."));
}
addEventListener("hashchange", take);
take();
"""
"""Exchanges `/#token=...` or what was typed for the cookie. A fragment is never sent to a server by itself."""

STATUS_SCRIPT = """
if (location.hash) history.replaceState(null, "", "/");
const leave = document.getElementById("leave");
leave.hidden = false;
leave.addEventListener("click", async () => {
  await fetch("/api/v1/session", {method: "DELETE"});
  location.replace("/");
});
const wait = document.body.dataset.again * 1000, due = Date.now() + wait;
const read = () => document.querySelector("details[open]") || String(getSelection());
const look = () => { if (!document.hidden && !read() && Date.now() >= due) location.reload() };
setInterval(look, wait);
document.addEventListener("visibilitychange", look);
"""
"""Looks again by itself, but not where nobody sees it (a forgotten tab costs the Pi nothing), and not while
somebody reads what was unfolded or has marked text. A token that is still in the address is taken out of it.
"""

ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%231f5fae' d='M8 1 1 7h2v7h4v-4h2v4h4V7h2z'/%3E%3C/svg%3E"
)


def policy(script: str) -> str:
    """The Content-Security-Policy of a page with this one script."""
    return (
        f"default-src 'self'; script-src {_hash(script)}; style-src {_hash(STYLE)}; img-src 'self' data:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
