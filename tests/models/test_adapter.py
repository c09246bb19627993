"""An adapter beside a layer."""

import torch
import torch.nn.functional as F
from torch import nn

from bico.models.adapter import Adapter, beside


def test_an_adapter_is_two_layers_with_a_gelu_between_them_and_an_added_condition() -> None:
    adapter, tokens, condition = Adapter(6, 4, 3), torch.randn(2, 5, 6), torch.randn(2, 3)
    nn.init.normal_(adapter.up.weight)
    adapter.current_condition = condition
    conditioned = tokens + (condition @ adapter.condition.weight.T)[:, None]
    inner = F.gelu(conditioned @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(tokens), inner @ adapter.up.weight.T + adapter.up.bias)


def test_a_layer_has_its_adapters_inside_the_context_only() -> None:
    layer, tokens = nn.Linear(6, 6), torch.randn(2, 5, 6)
    before = layer(tokens)
    adapter = Adapter(6, 4)
    nn.init.ones_(adapter.up.bias)
    with beside([(layer, adapter), (layer, adapter)]):
        torch.testing.assert_close(layer(tokens), before + 2 * adapter(tokens))
    assert torch.equal(layer(tokens), before) and not hasattr(layer, "adapters")
