"""The building blocks of the configuration: frozen sections, types of values, and errors of one line."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, LiteralString, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bico.core.errors import InputError


def problem(message: LiteralString, **values: Any) -> PydanticCustomError:
    return PydanticCustomError("benchmark", message, values)


def nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"expected one of {', '.join(known)}" if known else "expected none, it has no settings"


LONGEST_NAME = 100  # a file's name may have 255 bytes; the longest ending and a row's logs need some of them


def _path_part(name: str) -> str:
    """Checks a name, which becomes a part of paths. It has no hyphens, so that it cannot collide with the "case-..."
    of methods that learn per case."""
    if not re.fullmatch(r"[A-Za-z0-9]\w*", name, re.ASCII):
        raise problem("expected a name of letters, digits and underscores, got '{name}'", name=name[:60])
    if len(name) > LONGEST_NAME:
        raise problem(
            "expected a name of {most} characters at most, got {count}: '{name}...'",
            most=LONGEST_NAME, count=len(name), name=name[:40],
        )  # fmt: skip
    return name


def _not_blank(text: str) -> str:
    if not text.strip():
        raise problem("expected words, got {it}", it=repr(text))
    return text


def _file_path(path: Any) -> Any:
    """Refuses texts that are not paths: "" would be the folder where the command runs."""
    if path == "" or "\0" in str(path):
        raise problem("expected a path, got {it}", it=repr(str(path)[:60]))
    return path


def _listed(files: Any) -> Any:
    """The files of a folder in natural order: photo2 comes before photo10. Hidden files and folders do not count."""
    if not isinstance(files, str | Path):
        return files
    folder = Path(_file_path(files))
    if not folder.is_dir():
        found = "this is a file" if folder.exists() else "no such folder"
        raise problem("{it}: {found}: expected a folder or a list of files", it=str(folder), found=found)
    found = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise problem("{it}: no file in this folder: expected one at least", it=str(folder))
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.name.casefold())  # text and numbers alternate
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], path.name


Name = Annotated[str, AfterValidator(_path_part)]
FilePath = Annotated[Path, BeforeValidator(_file_path)]
Files = Annotated[
    list[FilePath], Field(min_length=1), BeforeValidator(_listed, json_schema_input_type=list[FilePath] | FilePath)
]
"""A list of files, or a folder, whose files are listed when the config is read."""
Words = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]

EXPECTED = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "list_type": "expected a list",
    "dict_type": "expected keys with values",
    "path_type": "expected a path",
}
"""Type of pydantic's error -> message for users who do not know Python."""


def _takes_flags(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_flags, get_args(annotation)))


class Section(BaseModel):
    """A frozen part of the configuration. An unknown key is an error that names the nearest known key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if not isinstance(values, Mapping | cls):
            names = [f"'{name}'" for name in cls.model_fields]
            such = "the keys " if len(names) < 3 else "keys such as "
            it = json.dumps(values, default=str, ensure_ascii=False)[:60]
            raise problem("expected {keys}, got {it}", keys=such + " and ".join(names[:2]), it=it)
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise problem("unknown key '{key}': {hint}", key=key, hint=nearest(str(key), cls.model_fields))
            flags = [entry for entry in (value if isinstance(value, list) else [value]) if isinstance(entry, bool)]
            if flags and not _takes_flags(cls.model_fields[key].annotation):  # pydantic would read true as 1
                raise problem("{key}: got {it}: expected neither true nor false", key=key, it=json.dumps(flags[0]))
        return values


SectionT = TypeVar("SectionT", bound=Section)


def checked(section: type[SectionT], values: Any, *, name: str) -> SectionT:
    """A section from plain values. Raises InputError, which gives `name` as the place where they come from."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{name}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """The first problem as "field.path: what was expected, got ...", followed by the number of further problems."""
    problems = error.errors(include_url=False)
    first = problems[0]
    message = re.sub(r"^(Input|String|List|Dictionary) should (be |have )?", "expected ", first["msg"])
    message = re.sub(r"(?<=^expected )(?=greater|less)", "a number ", message)
    message = EXPECTED.get(first["type"], message.partition(" after validation")[0])
    if first["type"] == "missing":
        message = "missing, and there is no default"
    elif first["type"] not in ("benchmark", "below"):
        message += f", got {json.dumps(first['input'], default=str, ensure_ascii=False)[:60]}"
    if first["type"] == "string_type" and isinstance(first["input"], bool | int | float):
        message += ": put it in quotes"
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if not where:
        return f"{message}{more}"
    return f"{where}{'.' if first['type'] == 'below' else ': '}{message}{more}"


def read_named(name: str, section: type[SectionT], entry: Any) -> SectionT:
    """The section of an entry under a name, such as a row. Raises an error that begins with the name."""
    try:
        return section.model_validate(entry)
    except ValidationError as error:
        mark = "." if error.errors()[0]["loc"] else ": "  # the error belongs to a setting, or to the whole entry
        raise PydanticCustomError("below", "{what}", {"what": f"{name}{mark}{describe(error)}"}) from None
