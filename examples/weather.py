"""Functions that a model may call: examples/weather.toml names this module. Type hints become the schema."""

from typing import Literal


def get_current_temperature(location: str, unit: Literal["Celsius", "Fahrenheit"] = "Fahrenheit") -> str:
    """The current temperature at a location, such as San Francisco, CA."""
    degrees = 57 if unit == "Fahrenheit" else 14
    return f"{degrees} degrees {unit} in {location}"


def get_rain_probability(location: str) -> str:
    """The probability of rain at a location."""
    return f"0.06 in {location}"
