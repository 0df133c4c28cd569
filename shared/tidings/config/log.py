"""What is logged."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from tidings.config.groups import SettingsGroup
from tidings.config.values import lower

__all__ = ["LogSettings"]


class LogSettings(SettingsGroup):
    """What is logged and how it looks."""

    model_config = SettingsConfigDict(env_prefix="TIDINGS_LOG_")

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = Field(
        default="info", description="Least level that is logged."
    )
    format: Annotated[Literal["auto", "json", "console"], BeforeValidator(lower)] = Field(
        default="auto", description="JSON lines, or text for people; `auto` is text on a terminal, JSON elsewhere."
    )
