"""The configuration folder conf/, and the groups and presets in it."""

from pathlib import Path


def conf_folder() -> Path:
    """conf/ beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def groups() -> list[str]:
    """Names of the configuration groups, without Hydra's own."""
    return sorted(path.name for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra")


def choices(group: str) -> list[str]:
    """Names of the choices in a group."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
