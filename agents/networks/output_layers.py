"""Output layers by name: what maps features to actions x outputs. Any head takes any of them."""

from value_heads import LinearOutput
from value_heads.base import Output

OUTPUT_LAYERS: dict[str, type[Output]] = {"linear": LinearOutput}
