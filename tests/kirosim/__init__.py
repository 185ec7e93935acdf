"""kirosim stands in for the Kiro service in tests and demos: a release mirror, a `kiro-cli`, an authorization server."""
