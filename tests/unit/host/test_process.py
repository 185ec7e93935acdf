"""What a program gets of our environment."""

from vmkit.host.process import Runner


def test_no_program_gets_the_agent_unless_it_is_handed_on(monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")

    assert "SSH_AUTH_SOCK" not in Runner().run(["env"]).text
    assert "SSH_AUTH_SOCK=/run/agent\n" in Runner().run(["env"], env={"SSH_AUTH_SOCK": "/run/agent"}).text
