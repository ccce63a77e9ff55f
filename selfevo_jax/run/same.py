"""Several processes that make one run were given the same one."""

from __future__ import annotations

import secrets
from pathlib import Path

from selfevo_jax import hosts
from selfevo_jax.config import Config
from selfevo_jax.errors import ConfigError
from selfevo_jax.run.files import write_file
from selfevo_jax.run.identity import flat


def check_hosts(root: Path, config: Config, fingerprints: dict[str, str]) -> None:
    """Raises ConfigError, with what differs, where the processes were not given the same run: config, data, tokenizer,
    and one directory."""
    if hosts.count() == 1:
        return
    given = hosts.gather("comparing configs", (config.model_dump(mode="json"), fingerprints))
    old = dict(flat(given[0][0]))
    for peer, (tree, prints) in zip(hosts.peers(), given, strict=True):
        new = dict(flat(tree))
        names = [k for k in {**old, **new} if old.get(k) != new.get(k) and k != "run_dir"]
        differences = [f"{k}: {old.get(k)!r} on process 0, {new.get(k)!r} there" for k in names]
        differences += [f"{k}: other content" for k in given[0][1] if given[0][1][k] != prints.get(k)]
        if differences:
            raise ConfigError(
                f"{peer} was given another run than process 0:\n  "
                + "\n  ".join(differences)
                + "\nGive all hosts the same config, overrides and data"
            )
    _check_shared(root)


def _check_shared(root: Path) -> None:
    def leave() -> str:
        token = f".seen-{secrets.token_hex(8)}"
        write_file(root / token, token.encode())
        return token

    token = root / hosts.agree("placing a file in run_dir", leave)
    blind = hosts.blind("looking for that file", token.exists)
    if hosts.is_writer():
        token.unlink(missing_ok=True)
    if blind:
        raise ConfigError(
            f"run_dir={root} is not the same directory on all hosts: {', '.join(map(str, blind))} did not see "
            f"what {hosts.peers()[0]} wrote there; put it on storage that all share"
        )
