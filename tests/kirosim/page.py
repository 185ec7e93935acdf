"""The page on which a person approves, in plain HTML without scripts. It says that it is a simulation."""

from html import escape

from tests.kirosim.service import Authorization, Decision

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --card: #fff; --ground: #f2f3f7; --text: #1b1f27; --dim: #5a6270;
  --accent: #6a3de8; --warn: #fff4d6; --warn-line: #e4b73c; --warn-text: #4d3b00; }
@media (prefers-color-scheme: dark) { :root { --line: #3a4150; --card: #1d222c; --ground: #12151b; --text: #eceff5;
  --dim: #a3abba; --accent: #a78bfa; --warn: #3a2f10; --warn-line: #8a6d1a; --warn-text: #ffe9ac; } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; display: flex; flex-direction: column; }
.note { background: var(--warn); border-bottom: 1px solid var(--warn-line); color: var(--warn-text);
  padding: .6rem 1rem; text-align: center; font-size: .9rem }
main { margin: auto; padding: 1.5rem; width: 100%; max-width: 30rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 2rem;
  box-shadow: 0 4px 24px rgb(0 0 0 / .08) }
h1 { font-size: 1.35rem; line-height: 1.3; margin: 0 0 .75rem }
p { margin: 0 0 1rem } .dim { color: var(--dim); font-size: .9rem } .dim:last-child { margin: 0 }
.code { font: 600 2rem/1 ui-monospace, "DejaVu Sans Mono", monospace; letter-spacing: .08em; text-align: center;
  padding: 1.1rem; margin: 0 0 1rem; border: 1px dashed var(--line); border-radius: 8px }
ul { margin: 0 0 1.25rem; padding-left: 1.2rem; color: var(--dim); font-size: .9rem }
.buttons { display: flex; gap: .75rem; margin-bottom: 1rem }
button { flex: 1; font: inherit; font-weight: 600; padding: .7rem 1rem; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--line); background: transparent; color: inherit }
button.main { background: var(--accent); border-color: var(--accent); color: var(--card) }
button:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
label { display: block; font-weight: 600; margin-bottom: .4rem }
input[type=text] { width: 100%; font: 1.2rem ui-monospace, "DejaVu Sans Mono", monospace; padding: .6rem .75rem;
  text-transform: uppercase; border: 1px solid var(--line); border-radius: 8px; background: transparent; color: inherit;
  margin-bottom: 1rem }
"""

_OUTCOMES = {
    Decision.APPROVED: ("Request approved", "You can close this window and go back to your terminal."),
    Decision.DENIED: ("Request denied", "Nothing was given out. The terminal that asked has been told."),
    Decision.EXPIRED: ("This code has expired", "Start the login again in your terminal to get a new one."),
    Decision.SLOW_DOWN: ("Request open", "The terminal that asked has been told to ask less often."),
}


def enter_code(*, wrong: bool = False) -> str:
    """Return the page that asks for a code."""
    problem = '<p role="alert"><strong>No login waits with that code.</strong></p>' if wrong else ""
    return _page(
        "Enter your code",
        f"""<h1>Enter the code from your terminal</h1>{problem}
<form method="get" action="/device"><label for="user_code">Code</label>
<input type="text" id="user_code" name="user_code" placeholder="ABCD-EFGH" maxlength="9" autocomplete="off" required>
<div class="buttons"><button class="main" id="continue">Continue</button></div></form>
<p class="dim">Never type a code that somebody sent you.</p>""",
    )


def consent(authorization: Authorization) -> str:
    """Return the page that asks for consent, or says what was decided already."""
    if authorization.decision is not Decision.PENDING:
        title, text = _OUTCOMES[authorization.decision]
        return _page(title, f'<h1 id="outcome">{title}</h1><p class="dim">{text}</p>')
    code, provider = escape(authorization.user_code), escape(authorization.provider)
    return _page(
        "Authorization requested",
        f"""<h1>Allow Kiro CLI to access your data?</h1>
<p class="dim">Signing in with {provider}. Check that your terminal shows this code:</p>
<p class="code" id="code">{code}</p>
<ul><li>codewhisperer:completions</li><li>codewhisperer:analysis</li><li>codewhisperer:conversations</li></ul>
<form method="post" action="/device"><input type="hidden" name="user_code" value="{code}">
<div class="buttons"><button name="decision" value="denied" id="deny">Deny</button>
<button class="main" name="decision" value="approved" id="approve">Approve</button></div></form>
<p class="dim">Approve only a login that you started yourself, just now.</p>""",
    )


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · kirosim</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><div class="note"><strong>kirosim</strong>: a stand-in for the Kiro service.
Nothing here is real, no account is touched.</div>
<main><div class="card">{body}</div></main></body></html>
"""
