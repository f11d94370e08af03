"""Where the key-encryption key comes from.

The first of these that is there: ``TUNNELKIT_MASTER_KEY``, the file that ``TUNNELKIT_MASTER_KEY_FILE`` names,
the keyring of the operating system (``TUNNELKIT_KEYRING=1``), a passphrase (``TUNNELKIT_PASSPHRASE``,
``TUNNELKIT_PASSPHRASE_FILE``), a file of its own that the store generates. A store remembers the ids of its
keys and what kind they are: once it has one, no other is put in its place but by ``rotate-key``, which finds
the key before it in ``TUNNELKIT_OLD_…`` variables of the same names.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import difflib
import hashlib
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tunnelkit.config import os_keyring
from tunnelkit.config.envelope import NONCE_SIZE
from tunnelkit.config.files import expanded, private_directory, read_private, write_private
from tunnelkit.config.masked import NO_SECRET, Masked
from tunnelkit.config.store import Prompt
from tunnelkit.errors import InvalidError, MasterKeyError

__all__ = ["KeyRow", "KeySettings", "Keys", "MasterKey", "parse_key"]

KEY_SIZE = 32

MIN_PASSPHRASE = 8
"""Characters of a new passphrase (NIST SP 800-63B §5.1.1.2); far more are better."""

ENVIRONMENT, FILE, KEYRING, PASSPHRASE, GENERATED = (
    "environment",
    "file",
    "keyring",
    "passphrase",
    "generated",
)

_ARGON2: Final = "$argon2id$v=19$m=65536,t=3,p=4$"
"""64 MiB, three passes, four lanes: the second recommendation of RFC 9106 §4."""

_PREFIX = "TUNNELKIT_"
_NAMES = ("MASTER_KEY", "MASTER_KEY_FILE", "PASSPHRASE", "PASSPHRASE_FILE")
_VARIABLES = (*(_PREFIX + old + name for old in ("", "OLD_") for name in _NAMES), _PREFIX + "KEYRING")


class KeyRow(NamedTuple):
    """A key as a store remembers it."""

    id: str
    source: str
    derivation: str
    """How it is made from a passphrase, in the form of the PHC string format without a hash; or empty."""


class MasterKey:
    """A key-encryption key. Its id is a digest: it tells keys apart and does not tell the key."""

    __slots__ = ("_key", "derivation", "id", "source")

    def __init__(self, key: bytes, source: str, derivation: str = "") -> None:
        self._key: Final = key
        self.id: Final = hashlib.sha256(b"tunnelkit key id\0" + key).hexdigest()[:16]
        self.source: Final = source
        self.derivation: Final = derivation

    def wrap(self, data_key: bytes, about: bytes) -> bytes:
        """``data_key`` encrypted, for ``about`` alone."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(NONCE_SIZE)
        return nonce + AESGCM(self._key).encrypt(nonce, data_key, about)

    def unwrap(self, wrapped: bytes, about: bytes) -> bytes:
        """Raises cryptography's InvalidTag, or ValueError where ``wrapped`` is too short."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key).decrypt(wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:], about)

    def text(self) -> str:
        """The key as :func:`parse_key` reads it."""
        return base64.b64encode(self._key).decode()

    def __repr__(self) -> str:
        return f"MasterKey({self.id}, {self.source})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key is not pickled")


def parse_key(text: str, source: str, *, what: str) -> MasterKey:
    """A key of 32 bytes, in base64 or hexadecimal. Raises MasterKeyError, which names it as ``what``."""
    text = "".join(text.split())
    key = b""
    with contextlib.suppress(binascii.Error, ValueError):
        if len(text) == 2 * KEY_SIZE:
            key = bytes.fromhex(text)
        else:
            standard = text.rstrip("=").replace("-", "+").replace("_", "/")
            key = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    if len(key) != KEY_SIZE:
        what = f"{what} is empty" if not text else f"{what} is not 32 bytes in base64 or hexadecimal"
        raise MasterKeyError(what, hint="Make one with: openssl rand -base64 32")
    return MasterKey(key, source)


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What the environment says about keys."""

    given: frozenset[tuple[str, Masked]] = field(default_factory=frozenset)
    keyring: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> KeySettings:
        """Raises MasterKeyError for a variable that is empty or looks like a misspelt one."""
        given = set()
        for variable, value in environ.items():
            if not variable.startswith(_PREFIX):
                continue
            if variable in _VARIABLES:
                given.add((variable.removeprefix(_PREFIX), Masked(value)))
            elif close := difflib.get_close_matches(variable, _VARIABLES, 1, cutoff=0.88):
                what = f"The environment variable {variable} is none of tunnelkit's"
                raise MasterKeyError(what, hint=f"Is it {close[0]}?")
        values = dict(given)
        keyring = values.pop("KEYRING", NO_SECRET).reveal().strip().lower()
        if keyring not in ("", "0", "no", "off", "false", "1", "yes", "on", "true"):
            raise InvalidError(f"{_PREFIX}KEYRING is neither true nor false", hint="Set it to 1 or 0")
        return cls(frozenset(values.items()), keyring in ("1", "yes", "on", "true"))

    def get(self, name: str) -> str | None:
        """The value of ``TUNNELKIT_{name}``, or None."""
        value = next((value for key, value in self.given if key == name), None)
        if value is not None and not value.reveal().strip():
            raise MasterKeyError(f"{_PREFIX}{name} is empty", hint="Unset it, or say what it is")
        return None if value is None else value.reveal()


class Keys:
    """Finds the keys that a store remembers, and makes new ones."""

    def __init__(self, directory: Path, settings: KeySettings, prompt: Prompt | None = None) -> None:
        """``directory``: where generated keys are."""
        self._directory = directory
        self._settings = settings
        self._prompt = prompt
        self._found: dict[str, MasterKey] = {}

    # --- keys that exist -----------------------------------------------------------------------

    def find(self, row: KeyRow, rows: Iterable[KeyRow]) -> MasterKey:
        """The key that ``row`` remembers; ``rows`` are all that the store has. Raises MasterKeyError."""
        if row.id not in self._found:
            self._check_wanted(list(rows))
        return self.find_any(row)

    def find_any(self, row: KeyRow) -> MasterKey:
        """The key that ``row`` remembers, also where the environment names another to rotate to."""
        if (key := self._found.get(row.id)) is None:
            self._found[row.id] = key = self._find(row)
        return key

    def _check_wanted(self, rows: list[KeyRow]) -> None:
        """Refuse to go past the key that the environment names: whoever set it believes that it is used."""
        what = self._wanted()
        if (key := self._given("")) is not None:
            what = f"{what} ({key.id})"
            known = key.id in {row.id for row in rows}
        else:
            kind = KEYRING if self._settings.keyring else PASSPHRASE
            known = what is None or kind in {row.source for row in rows}
        if not known:
            theirs = " and ".join(f"{row.id} ({row.source})" for row in rows)
            hint = "Give the key it was written with; `tunnelkit secret rotate-key` changes to another"
            raise MasterKeyError(f"{what} is set, but the store's key is {theirs}", hint=hint)

    def _wanted(self) -> str | None:
        """The variable that says which key is to be used, if there is one."""
        names = "MASTER_KEY", "MASTER_KEY_FILE", "KEYRING", "PASSPHRASE", "PASSPHRASE_FILE"
        is_set = (
            self._settings.keyring if name == "KEYRING" else self._settings.get(name) is not None
            for name in names
        )
        return next((_PREFIX + name for name, it in zip(names, is_set, strict=True) if it), None)

    def is_wanted(self, row: KeyRow, kind: str | None) -> bool:
        """Whether a rotation that was asked for with :meth:`create`'s ``kind`` may end with this key."""
        given = self._given("") if kind is None else None
        return kind in (None, row.source) and (given is None or given.id == row.id)

    def _find(self, row: KeyRow) -> MasterKey:
        for old in ("", "OLD_"):
            key = self._given(old)
            if key is not None and key.id == row.id:
                return key
        if row.source == GENERATED:
            return self._checked(
                row, parse_key(read_private(self._file(row.id)), GENERATED, what="The key file")
            )
        if row.source == KEYRING:
            text = os_keyring.get(row.id)
            return self._checked(row, parse_key(text, KEYRING, what="The key in the keyring"))
        if row.source == PASSPHRASE:
            return self._from_passphrase(row)
        raise MasterKeyError(
            f"The store's key {row.id} is not there",
            hint=f"Set {_PREFIX}MASTER_KEY or {_PREFIX}MASTER_KEY_FILE to the key it was written with",
        )

    def _checked(self, row: KeyRow, key: MasterKey) -> MasterKey:
        if key.id != row.id:
            raise MasterKeyError(f"The {row.source} key is {key.id}, not the store's {row.id}", hint=_RESTORE)
        return key

    def _given(self, old: str) -> MasterKey | None:
        if (text := self._settings.get(f"{old}MASTER_KEY")) is not None:
            return parse_key(text, ENVIRONMENT, what=f"{_PREFIX}{old}MASTER_KEY")
        if (path := self._settings.get(f"{old}MASTER_KEY_FILE")) is not None:
            return parse_key(read_private(expanded(path)), FILE, what=path)
        return None

    def _file(self, key_id: str) -> Path:
        return self._directory / f"{key_id}.key"

    # --- passphrases ---------------------------------------------------------------------------

    def _has_passphrase(self, old: str) -> bool:
        return any(self._settings.get(f"{old}PASSPHRASE{end}") is not None for end in ("", "_FILE"))

    def _passphrase(self, old: str) -> str | None:
        if (text := self._settings.get(f"{old}PASSPHRASE")) is not None:
            return text
        if (path := self._settings.get(f"{old}PASSPHRASE_FILE")) is not None:
            return read_private(expanded(path))
        return None

    def _from_passphrase(self, row: KeyRow) -> MasterKey:
        given = [text for old in ("", "OLD_") if (text := self._passphrase(old)) is not None]
        if not given and self._prompt is not None:
            given = [self._prompt("Passphrase of the store", False)]
        for text in given:
            key = _derive(text, row.derivation)
            if key.id == row.id:
                return key
        if given:
            raise MasterKeyError("The passphrase is not the store's", hint="Give the one it was written with")
        raise MasterKeyError(
            "The store is locked with a passphrase",
            hint=f"Set {_PREFIX}PASSPHRASE or {_PREFIX}PASSPHRASE_FILE, or run this on a terminal",
        )

    # --- new keys ------------------------------------------------------------------------------

    def create(self, kind: str | None = None, *, like: KeyRow | None = None) -> MasterKey:
        """The key for a new store, or the one to rotate to.

        ``kind``: ``generated``, ``keyring`` or ``passphrase``; None: what the environment names, or else the
        kind of ``like``. Raises InvalidError and MasterKeyError.
        """
        if kind not in (None, GENERATED, KEYRING, PASSPHRASE):
            raise InvalidError(
                f"There is no key of kind {kind!r}", hint="Give generated, keyring or passphrase"
            )
        if kind is not None and (wanted := self._wanted()) is not None and kind.upper() not in wanted:
            old = wanted.replace(_PREFIX, _PREFIX + "OLD_")
            hint = f"Unset it, or call it {old} if that is the key the store has now"
            raise MasterKeyError(f"{wanted} is set, which decides over the kind of key", hint=hint)
        key = self._create(kind, like)
        self._found[key.id] = key
        return key

    def _create(self, kind: str | None, like: KeyRow | None) -> MasterKey:
        if kind is None:
            if (given := self._given("")) is not None:
                return given
            kind = self._kind(like)
        if kind == PASSPHRASE:
            return self._new_passphrase()
        key = MasterKey(secrets.token_bytes(KEY_SIZE), kind)
        if kind == KEYRING:
            os_keyring.put(key.id, key.text())
        else:
            self._write(key)
        return key

    def _kind(self, like: KeyRow | None) -> str:
        if self._settings.keyring:
            return KEYRING
        if self._has_passphrase(""):
            return PASSPHRASE
        if like is None:
            return GENERATED
        if like.source in (ENVIRONMENT, FILE):
            hint = f"Set {_PREFIX}MASTER_KEY to it and {_PREFIX}OLD_MASTER_KEY to the one before, or say --to"
            raise MasterKeyError("There is no new key", hint=hint)
        return like.source

    def _new_passphrase(self) -> MasterKey:
        text = self._passphrase("")
        if text is None and self._prompt is not None:
            text = self._prompt("New passphrase of the store", True)
        if text is None:
            hint = f"Set {_PREFIX}PASSPHRASE or {_PREFIX}PASSPHRASE_FILE, or run this on a terminal"
            raise MasterKeyError("There is no passphrase", hint=hint)
        if len(text) < MIN_PASSPHRASE:
            hint = f"Take {MIN_PASSPHRASE} characters at least; five random words are good"
            raise MasterKeyError("The passphrase is too short", hint=hint)
        return _derive(text, _ARGON2 + base64.b64encode(secrets.token_bytes(16)).decode())

    def _write(self, key: MasterKey) -> None:
        private_directory(self._directory)
        try:
            write_private(self._file(key.id), key.text() + "\n")
        except OSError as error:
            what = f"No key can be written to {self._directory}: {error.strerror}"
            raise MasterKeyError(
                what, hint="Make room there, or give a key with TUNNELKIT_MASTER_KEY"
            ) from None

    def discard(self, row: KeyRow) -> None:
        """Delete a key that no store needs any more, where it is ours to delete."""
        self._found.pop(row.id, None)
        if row.source == GENERATED:
            with contextlib.suppress(OSError):
                self._file(row.id).unlink()
        elif row.source == KEYRING:
            with contextlib.suppress(MasterKeyError):
                os_keyring.delete(row.id)


_RESTORE = "Restore the key; without it the values cannot be read"


def _derive(passphrase: str, derivation: str) -> MasterKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    if not derivation.startswith(_ARGON2):
        raise MasterKeyError("The passphrase's key was made in a way that this version does not know")
    salt = base64.b64decode(derivation.removeprefix(_ARGON2))
    text = unicodedata.normalize("NFC", passphrase).encode(errors="surrogateescape")
    try:
        kdf = Argon2id(salt=salt, length=KEY_SIZE, iterations=3, lanes=4, memory_cost=64 << 10)
    except UnsupportedAlgorithm:
        hint = "Install a cryptography with OpenSSL 3.2 or newer, or use another kind of key"
        raise MasterKeyError("This cryptography library has no Argon2id", hint=hint) from None
    return MasterKey(kdf.derive(text), PASSPHRASE, derivation)
