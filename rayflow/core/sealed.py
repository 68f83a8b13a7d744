"""Secrets on their way to a cluster: encrypted under the token that its machines share.

A job server keeps the environment of a job and shows it to everyone who may list jobs. So a secret is sent as
one encrypted variable, which only a process that holds the cluster's token can open, in its own memory.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable

from rayflow.core.ray_token import RayToken, find_token
from rayflow.errors import ConfigError, MissingPackageError

SEALED = "RAYFLOW_SEALED_ENV"
"""The variable that carries the secrets, encrypted."""


def seal(names: Iterable[str], token: RayToken) -> str:
    """The values of these environment variables, encrypted under the cluster's token.

    Raises:
        ConfigError: a variable is not set here.
    """
    values = {}
    for name in names:
        if not os.environ.get(name):
            raise ConfigError(
                f"--env {name}: the variable is not set in this shell. Export it here, or, if the cluster's machines "
                f"have it, use --cluster-env {name}."
            )
        values[name] = os.environ[name]
    return _cipher(token).encrypt(json.dumps(values).encode()).decode()


def unseal() -> None:
    """Put the secrets that came with a job into this process's environment; nothing came: nothing happens.

    Raises:
        ConfigError: this machine's token is another one, or missing.
    """
    sealed = os.environ.get(SEALED)
    if not sealed:
        return
    token = find_token()
    if token is None:
        raise ConfigError(
            "This job came with sealed variables, and this machine has no Ray token to open them with. Give every "
            "machine of the cluster the same token (RAY_AUTH_TOKEN, or ~/.ray/auth_token)."
        )
    from cryptography.fernet import InvalidToken

    try:
        opened = _cipher(token).decrypt(sealed.encode())
    except InvalidToken:
        raise ConfigError(
            "The sealed variables of this job do not open with this machine's Ray token: the job was submitted with "
            "another one. Give every machine of the cluster the same token."
        ) from None
    os.environ.update(json.loads(opened))


def _cipher(token: RayToken):  # noqa: ANN202 - the type is the optional package's
    try:
        from cryptography.fernet import Fernet
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise MissingPackageError.of("cryptography", "Sending secrets with --env", "ray") from None
    # A key of its own, so that what is encrypted says nothing about the token's use in requests.
    key = HKDF(SHA256(), length=32, salt=None, info=b"rayflow sealed environment").derive(
        token.value.encode()
    )
    return Fernet(base64.urlsafe_b64encode(key))
