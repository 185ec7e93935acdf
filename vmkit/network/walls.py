"""The walls of a closed machine: one row of `vmkit verify` each, by what would fall if one control were taken away."""

from enum import StrEnum


class Wall(StrEnum):
    """One row."""

    CARD = "network-card"
    FORWARD = "forward"
    DOOR = "door"
    NAMES = "names"
    BROAD = "broad-names"
    PORTS = "ports"
    FORMS = "name-forms"
    REQUESTS = "requests"
    ADDRESSES = "addresses"
    TLS_NAME = "tls-name"
    PLAIN = "plain-text"
    RESOLVER = "name-service"
    LISTENERS = "ssh-forwards"
    AGENT = "ssh-agent"
    X11 = "x11"
    ENVIRONMENT = "environment"
    SHARES = "shared-folders"
    CHANNELS = "channels"
    SMBIOS = "smbios"
    FILES = "host-files"


# What holds while the row is green.
CLAIMS: dict[Wall, str] = {
    Wall.CARD: "the network card leads nowhere: not to this computer, its networks or the internet",
    Wall.FORWARD: "the port that leads to the guest's sshd answers on this computer alone",
    Wall.DOOR: "the guest reaches the proxy, and the proxy answers",
    Wall.NAMES: "names that no rule allows are refused",
    Wall.BROAD: "no rule covers names that strangers own",
    Wall.PORTS: "an allowed name is allowed on its own ports only",
    Wall.FORMS: "addresses, and names written in other forms, are no names",
    Wall.REQUESTS: "a request that two programs could read differently is refused",
    Wall.ADDRESSES: "an allowed name that leads to this computer or a private network is refused",
    Wall.TLS_NAME: "TLS inside a tunnel names the host that was asked for",
    Wall.PLAIN: "nothing but TLS goes through a tunnel",
    Wall.RESOLVER: "the guest has no name service",
    Wall.LISTENERS: "sshd forwards one port, the proxy's",
    Wall.AGENT: "no SSH agent is forwarded",
    Wall.X11: "no X11 display is forwarded",
    Wall.ENVIRONMENT: "nothing of this computer's environment is in the guest's",
    Wall.SHARES: "no folder is shared",
    Wall.CHANNELS: "the hypervisor has no channel but the guest agent's: no clipboard",
    Wall.SMBIOS: "what the hypervisor tells of itself names nothing of this computer",
    Wall.FILES: "policy, keys and control sockets are open to you alone",
}
