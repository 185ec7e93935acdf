"""Render the settings of srt, the Sandbox Runtime, from a policy: for this computer, or for a guest's second wall.

The keys are those of srt 0.0.83, which refuses to start without the five lists and passes over a key `//`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmkit.errors import WrongState
from vmkit.network.policy import Mode, Policy, origin
from vmkit.network.rules import Rule, matches
from vmkit.network.srt import Remark

# Where credentials lie, on macOS and Linux. What is not there costs nothing.
SECRET_PLACES = (
    "~/.ssh", "~/.gnupg", "~/.aws", "~/.azure", "~/.config/gcloud", "~/.kube", "~/.docker",
    "~/.config/containers/auth.json", "~/.config/gh", "~/.config/glab-cli", "~/.config/git/credentials",
    "~/.git-credentials", "~/.netrc", "~/.npmrc", "~/.pypirc", "~/.password-store", "~/.local/share/keyrings",
    "~/.bash_history", "~/.zsh_history", "~/.mozilla", "~/.config/google-chrome", "~/.config/chromium",
    "~/Library/Application Support/Google/Chrome", "~/Library/Application Support/Firefox", "~/Library/Cookies",
)  # fmt: skip
SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN",
    "NPM_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SSH_AUTH_SOCK",
)  # fmt: skip
# Kiro's data, settings and log, on macOS and Linux: without them it does not start.
KIRO_PLACES = ("~/.kiro", "~/.local/share/kiro-cli", "~/Library/Application Support/kiro-cli/")


@dataclass(frozen=True, kw_only=True)
class SrtSettings:
    """Settings, and a remark on what of the policy they cannot say."""

    content: dict[str, Any]
    remarks: tuple[Remark, ...]


def render_srt(
    policy: Policy, *, now: float, comment: Sequence[str] = (), workspace: str = ".", proxy: str | None = None
) -> SrtSettings:
    """Return settings that allow writing to `workspace` and Kiro's own places, and the hosts that the policy allows.

    `proxy`: the URL of a proxy that srt's own has to go through. Raises WrongState for an open network: srt has no
    word for it.
    """
    if policy.mode is Mode.OPEN:
        raise WrongState(
            "the network of this policy is open, and srt's settings need a list of hosts",
            hint="give a machine or a template whose network is closed (strict or airgap)",
        )
    closed = policy.mode is Mode.AIRGAP
    rules = [] if closed else [rule for rule in policy.rules if not _is_denied(rule, policy)]
    lasting = [rule for rule in rules if rule.expires is None]
    network: dict[str, Any] = {
        "allowedDomains": list(dict.fromkeys(f"{rule.host}:{port}" for rule in lasting for port in rule.ports)),
        # srt takes no wildcard of one label; what it would deny is not allowed either.
        "deniedDomains": [host for host in policy.denied if host.removeprefix("*.").count(".")],
        "strictAllowlist": True,
    }
    if proxy:
        network["parentProxy"] = {"http": proxy, "https": proxy}
    content: dict[str, Any] = {
        **({"//": list(comment)} if comment else {}),
        "network": network,
        "filesystem": {
            "denyRead": list(SECRET_PLACES),
            "allowRead": [],
            "allowWrite": [workspace, *KIRO_PLACES],
            "denyWrite": [],
        },
        "credentials": {"envVars": [{"name": name, "mode": "deny"} for name in SECRET_VARIABLES]},
    }
    text = "left out: srt's settings have no end, and what was allowed for a time must not stay"
    remarks = [
        Remark(name=origin(rule), text=text) for rule in rules if rule.expires is not None and now < rule.expires
    ]
    return SrtSettings(content=content, remarks=tuple(remarks))


def _is_denied(rule: Rule, policy: Policy) -> bool:
    return any(host == rule.host or matches(host, rule.host) for host in policy.denied)
