"""Options with which every head is small, by its name; what is not named here is small as it is."""

from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "quantile": {"num_quantiles": 4},
    "iqn": {"num_taus": 3, "num_target_taus": 5, "num_acting_taus": 4, "num_cosines": 4},
    **{name: {"num_bins": 7} for name in ("mse_softmax", "one_hot", "two_hot", "hl_gauss", "c51", "categorical")},
}
