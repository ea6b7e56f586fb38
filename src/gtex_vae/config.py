"""Configs: plain containers, checked against signatures, built from an allow-list of targets.

A node with ``_target_`` contains the keyword arguments of that class or function. The signature is the only schema: keys
and types are checked against it before any data is read. The constructor checks the values.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from gtex_vae.errors import ConfigError
from gtex_vae.paths import matrix_name

TARGETS = ("gtex_vae", "torch.optim", "lightning.pytorch")
NESTED = (
    "alignment.pseudobulk",
    "alignment",
    "data.prepare",
    "data",
)  # where a command may have a function's arguments
# Former dotted paths, found in runs, sweeps, checkpoints and processed files of earlier versions.
FORMER_TARGETS = {
    "gtex_vae.data.prepare.prepare_matrix": "gtex_vae.data.preprocess.prepare.prepare_matrix",
    "gtex_vae.data.simulate.simulate_gtex": "gtex_vae.data.simulate.bulk.simulate_gtex",
    "gtex_vae.data.simulate_cells.simulate_singlecell": "gtex_vae.data.simulate.cells.simulate_singlecell",
    "gtex_vae.data.pseudobulk.make_pseudobulk": "gtex_vae.data.single_cell.pseudobulk.make_pseudobulk",
    "gtex_vae.training.align.align_donors": "gtex_vae.training.alignment_fit.align_donors",
}


def register_resolvers() -> None:
    """Register ``${first:a,b}`` (the first that is not null), ``${stem:path}`` and ``${slug:a,b}`` for the configs."""
    OmegaConf.register_new_resolver(
        "first", lambda *values: next((v for v in values if v is not None), None), replace=True
    )
    OmegaConf.register_new_resolver("stem", lambda path: matrix_name(path) if path else None, replace=True)
    OmegaConf.register_new_resolver("slug", slug, replace=True)


def slug(*parts: Any) -> str:
    """Join parts to a folder name of at most 200 characters that need no quotes in a Hydra override.

    >>> slug(0, "+experiment=seed_64,model.hidden_dims=[64,32],data.path=/a/b.h5ad")
    '0_experiment-seed_64_model.hidden_dims-64_32_data.path-a-b.h5ad'
    """
    name = "_".join(str(part) for part in parts if part not in (None, ""))
    name = re.sub(r"[^\w.,=/-]", "", name).replace(",", "_")
    return re.sub("[=/]+", "-", name)[:200].rstrip(".-_")


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolve a config to dicts, lists, numbers and strings.

    Raises
    ------
    ConfigError
        A value is missing (``???``) or an interpolation cannot be resolved.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        key = error.full_key or "?"
        if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
            # only the message of an interpolation has the full key
            key = missing.group(1) if isinstance(error, InterpolationToMissingValueError) else key
            raise ConfigError(f"{key} is required: add {key}=VALUE to the command") from error
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def nearest(name: str, valid: Iterable[str], *, listed: Iterable[str] | None = None) -> str:
    """Suggest the most similar valid name, ``; did you mean 'latent_dim'?``, else list ``listed`` or all valid names, if any.

    >>> nearest("latnt_dim", ["latent_dim", "dropout"])
    "; did you mean 'latent_dim'?"
    >>> nearest("batch", [])
    ''
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    shown = names if listed is None else sorted(listed)
    return f"; valid: {', '.join(shown)}" if shown else ""


def find_target(target: str, under: str | tuple[str, ...] = TARGETS) -> Callable[..., Any]:
    """Import the class or function of ``_target_`` from an allowed package.

    Parameters
    ----------
    target
        Dotted path.
    under
        Allowed packages. Both the path and the object's ``__module__`` must be in them, so that a path cannot reach
        another package through a module that imports it.

    Raises
    ------
    ConfigError
        The target is not allowed or does not exist.
    """
    packages = (under,) if isinstance(under, str) else under

    def allowed(module: str) -> bool:
        return any(module == package or module.startswith(package + ".") for package in packages)

    module_name, _, name = FORMER_TARGETS.get(str(target), str(target)).rpartition(".")
    if not allowed(module_name):
        raise ConfigError(f"_target_={target} is not allowed: it must be in {', '.join(packages)}")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_={target} does not exist") from error
    if not (inspect.isclass(found) or inspect.isfunction(found)) or not allowed(found.__module__):
        raise ConfigError(f"_target_={target} is not a class or function of {', '.join(packages)}")
    return found


def full_keys(message: str, config: Mapping[str, Any]) -> str:
    """Complete the keys in a message, ``unit=``, to those of the command, ``data.prepare.unit=``.

    >>> full_keys("state unit= or seed=", {"seed": 0, "data": {"prepare": {"unit": None}}})
    'state data.prepare.unit= or seed='
    """

    def complete(match: re.Match[str]) -> str:
        key = match.group()
        for path in () if key in config else NESTED:
            node: Any = config
            for part in path.split("."):
                node = node.get(part) if isinstance(node, Mapping) else None
            if isinstance(node, Mapping) and key in node:
                return f"{path}.{key}"
        return key

    return re.sub(r"(?<![\w.:/])[a-z]\w*(?==)", complete, message)


def update_targets(node: Any) -> Any:
    """Replace each ``_target_`` of an earlier version by its present path, in the whole tree.

    >>> update_targets({"prepare": {"_target_": "gtex_vae.data.prepare.prepare_matrix", "path": "a.tsv"}})
    {'prepare': {'_target_': 'gtex_vae.data.preprocess.prepare.prepare_matrix', 'path': 'a.tsv'}}
    """
    if isinstance(node, Mapping):
        updated = {key: update_targets(value) for key, value in node.items()}
        if isinstance(updated.get("_target_"), str):
            updated["_target_"] = FORMER_TARGETS.get(updated["_target_"], updated["_target_"])
        return updated
    return [update_targets(value) for value in node] if isinstance(node, list) else node


def build(node: Mapping[str, Any], under: str | tuple[str, ...] = TARGETS, **filled_in: Any) -> Any:
    """Call the node's target with its keys as keyword arguments.

    Parameters
    ----------
    node
        ``_target_`` and arguments.
    under
        See `find_target`.
    **filled_in
        Further arguments that are not in the config (number of genes, parameters to optimize).
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return find_target(node.get("_target_", ""), under)(**arguments, **filled_in)


def check(node: Any, path: str = "") -> None:
    """Check all nodes with a ``_target_`` against the signatures of their targets.

    Raises
    ------
    ConfigError
        A key is unknown or a value has the wrong type.
    """
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            _check_arguments(node, find_target(node["_target_"]), path)
        for key, value in node.items():
            check(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            check(value, f"{path}[{position}]")


def check_fields(values: Mapping[str, Any], schema: Callable[..., Any]) -> None:
    """Check the root keys of a stage against its schema, then all nodes with `check`.

    Raises
    ------
    ConfigError
        A key is unknown or a value has the wrong type.
    """
    _check_arguments(values, schema, "")
    check(values)


def _check_arguments(node: Mapping[str, Any], target: Callable[..., Any], path: str) -> None:
    from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # annotations that cannot be resolved at run time
        hints = {}
    for key, value in node.items():
        if key == "_target_":
            continue
        full_key = f"{path}.{key}" if path else key
        if key not in parameters:
            raise ConfigError(f"unknown key {full_key}{nearest(key, parameters)}")
        try:
            adapter = TypeAdapter(hints.get(key, Any), config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:  # the type has its own pydantic config
            adapter = TypeAdapter(hints[key])
        except PydanticSchemaGenerationError:
            continue
        try:
            # strict JSON accepts a list for a tuple and 1 for a float, but not "64", 64.0 or true for an integer
            adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            what = problem["msg"].replace("valid array", "list")
            raise ConfigError(f"{full_key}={value!r}: {what[0].lower()}{what[1:]}") from error
