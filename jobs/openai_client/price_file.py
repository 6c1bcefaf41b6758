"""Reads the file of ASKMILL_PRICES, a TOML table for each model (docs/how-to/budget.md).

["my-model"]                          USD per million tokens
prompt_usd_per_million = 1.0
completion_usd_per_million = 4.0
cached_usd_per_million = 0.1          prompt tokens read from the cache; unset: as other prompt tokens
cache_write_usd_per_million = 1.25    prompt tokens written to the cache; unset: as other prompt tokens
long_prompt_tokens = 272000           requests with a longer prompt cost what the table `long` says

["my-model".long]                     the same four prices
["my-model".flex]                     so for each service tier: flex, priority, batch, scale
["my-model".flex.long]
"""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from askmill.config.settings import BadSetting
from askmill.jobs.openai_client.price import Price

EXAMPLE = (
    'A good value: prices.toml, a file such as ["my-model"] / prompt_usd_per_million = 0.25 / '
    "completion_usd_per_million = 2.0."
)
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Prices(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt_usd_per_million: Usd
    completion_usd_per_million: Usd
    cached_usd_per_million: Usd | None = None
    cache_write_usd_per_million: Usd | None = None

    def price(self) -> Price:
        return Price(
            self.prompt_usd_per_million,
            self.completion_usd_per_million,
            self.cached_usd_per_million,
            self.cache_write_usd_per_million,
        )


class _Tier(_Prices):
    long: _Prices | None = None
    long_prompt_tokens: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _long_needs_both(self) -> "_Tier":
        if (self.long is None) is not (self.long_prompt_tokens is None):
            raise ValueError("long_prompt_tokens and the table long need each other")
        return self

    def price(self) -> Price:
        price = super().price()
        if self.long is None or self.long_prompt_tokens is None:
            return price
        return replace(price, long=(self.long_prompt_tokens, self.long.price()))


class _Model(_Tier):
    flex: _Tier | None = None
    priority: _Tier | None = None
    batch: _Tier | None = None
    scale: _Tier | None = None

    def price(self) -> Price:
        tiers = {name: tier.price() for name in TIERS if (tier := getattr(self, name)) is not None}
        return replace(super().price(), tiers=tiers)


TIERS = ("flex", "priority", "batch", "scale")
_FILE = TypeAdapter(dict[str, _Model])


def read_price_file(file: Path) -> dict[str, Price]:
    """The prices by model. Raises BadSetting, which names the file, the field and a valid example."""
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        return {model: table.price() for model, table in _FILE.validate_python(tables).items()}
    except OSError as error:
        raise BadSetting(f"ASKMILL_PRICES: {file}: {error.strerror or error}. {EXAMPLE}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"ASKMILL_PRICES: {file} is not TOML: {error}. {EXAMPLE}") from None
    except ValidationError as invalid:
        faults = "; ".join(_fault(dict(error)) for error in invalid.errors()[:5])
        raise BadSetting(f"ASKMILL_PRICES: {file}: {faults}. {EXAMPLE}") from None


def _fault(error: dict[str, Any]) -> str:
    place, fault = ".".join(map(str, error["loc"])), str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        fault = "unknown field (a model whose name has a dot needs quotes)"
    return f"{place}: {fault}"
