"""Which service and key a command uses: of its options, the environment or the profile file."""

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.client import InvalidInputError
from app.client.client import DEFAULT_URL

DEFAULT_PROFILE = "default"
URL_VARIABLE, KEY_VARIABLE, PROFILE_VARIABLE = "PST_URL", "PST_API_KEY", "PST_PROFILE"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What stands before the command's name; None: not given."""

    profile: str | None = None
    url: str | None = None
    patience: float | None = None
    """With an outage, in seconds."""


@dataclass(frozen=True, slots=True)
class Access:
    url: str
    key: str


def find_access(chosen: Chosen, environment: Mapping[str, str] = os.environ) -> Access:
    """The address and the key.

    A profile that is named comes before the environment, and this before the profile `default`.
    A profile's key goes to that profile's address and to no other.

    Raises:
        InvalidInputError: There is no such profile, or its file cannot be read.
    """
    name = chosen.profile or environment.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    named = name != DEFAULT_PROFILE or chosen.profile is not None
    profiles = read_profiles(environment)
    if named and name not in profiles:
        raise InvalidInputError(
            f"There is no profile {name!r} in {profile_file(environment)}.",
            remedy=f"Make it: pst login --profile {name}",
        )
    profile = profiles.get(name)
    if named and profile and not chosen.url:
        return profile
    address = chosen.url or environment.get(URL_VARIABLE)
    url = (address or (profile.url if profile else DEFAULT_URL)).rstrip("/")
    key = environment.get(KEY_VARIABLE, "")
    if profile and url == profile.url and (named or not key):
        key = profile.key
    return Access(url, key)


def profile_file(environment: Mapping[str, str] = os.environ) -> Path:
    home = environment.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "pst" / "config.toml"


def read_profiles(environment: Mapping[str, str] = os.environ) -> dict[str, Access]:
    """All profiles, by name; none where there is no file.

    Raises:
        InvalidInputError: It is no TOML, or not of this form.
    """
    path = profile_file(environment)
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
        return {
            name: Access(str(profile["url"]).rstrip("/"), str(profile["key"]))
            for name, profile in written.get("profiles", {}).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"{path} cannot be read: {error}.",
            remedy='Each profile is a table [profiles.NAME] with "url" and "key".',
        ) from error


def write_profile(name: str, access: Access, environment: Mapping[str, str] = os.environ) -> Path:
    """Add a profile, or put it in the place of the one of its name; only its owner may read it."""
    profiles = read_profiles(environment) | {name: access}
    path = profile_file(environment)
    path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    # A temporary file is its owner's alone from its first byte on; the old one is whole until then.
    descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".config-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        # Strings of JSON are strings of TOML.
        for each, profile in profiles.items():
            url, key = json.dumps(profile.url), json.dumps(profile.key)
            file.write(f"[profiles.{json.dumps(each)}]\nurl = {url}\nkey = {key}\n\n")
    Path(scratch).replace(path)
    return path


def is_open_to_others(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody else may read the keys."""
    try:
        mode = profile_file(environment).stat().st_mode
    except OSError:
        return False
    return bool(mode & (stat.S_IRWXG | stat.S_IRWXO))
