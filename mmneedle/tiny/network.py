"""Qwen2-VL in plain PyTorch: small, and open where training looks in.

The network of Wang et al., arXiv:2409.12191, with transformers' parameter names, so that a state
dict fits both. Shapes: B haystacks, T tokens, V visual tokens, D = 256 channels, H = 2 heads.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from mmneedle.tiny import checkpoint as cp

Cache = tuple[Tensor, Tensor]
"""Keys and values of earlier tokens, each [B, H, past, 128]."""


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x [..., dim] by cos and sin of the same last dimension."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos + turned * sin


def text_angles(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines for positions [3, ..., T] (time, height, width): each [..., T, 128]."""
    dim = cp.HIDDEN // cp.HEADS
    steps = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * cp.ROPE_THETA ** (-steps / dim)
    parts = angles.split(list(cp.MROPE), -1)
    angles = torch.cat([parts[axis][axis] for axis in range(3)], -1)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def image_angles(rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines for patches at rows and cols [patches]: each [patches, 64]."""
    dim = cp.VISION_WIDTH // cp.VISION_HEADS // 2
    steps = torch.arange(0, dim, 2, device=rows.device, dtype=torch.float32)
    rates = cp.VISION_ROPE_THETA ** (-steps / dim)
    angles = torch.cat((rows[:, None].float() * rates, cols[:, None].float() * rates), -1)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


class RMSNorm(nn.Module):
    """Root mean square norm, in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if x.is_cuda:  # one kernel
            return fn.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), cp.EPSILON)
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + cp.EPSILON)
        return self.weight * (wide * scale).to(x.dtype)


class Attention(nn.Module):
    """Attention of the language part."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(cp.HIDDEN, cp.HIDDEN)
        self.k_proj = nn.Linear(cp.HIDDEN, cp.HIDDEN)
        self.v_proj = nn.Linear(cp.HIDDEN, cp.HIDDEN)
        self.o_proj = nn.Linear(cp.HIDDEN, cp.HIDDEN, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, T, D], rotated: each [B, H, T, 128]."""
        q, k, v = (
            layer(x).unflatten(-1, (cp.HEADS, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attend where mask [.., T, past + T] is true, or by what it adds: [B, T, D]."""
        out = fn.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return result


class Mlp(nn.Module):
    """Gated feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(cp.HIDDEN, cp.MLP, bias=False)
        self.up_proj = nn.Linear(cp.HIDDEN, cp.MLP, bias=False)
        self.down_proj = nn.Linear(cp.MLP, cp.HIDDEN, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        result: Tensor = self.down_proj(fn.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


class Layer(nn.Module):
    """A decoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.mlp = Mlp()
        self.input_layernorm = RMSNorm(cp.HIDDEN)
        self.post_attention_layernorm = RMSNorm(cp.HIDDEN)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What this layer's attention compares: each [B, H, T, 128]."""
        return self.self_attn.project(self.input_layernorm(x), cos, sin)

    def finish(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """The layer's output [B, T, D], given `project`'s, with a cache before k and v or not."""
        x = x + self.self_attn(q, k, v, mask)
        result: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return result


class TextModel(nn.Module):
    """The language part."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(cp.VOCABULARY, cp.HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(cp.LAYERS))
        self.norm = RMSNorm(cp.HIDDEN)

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor, past: Sequence[Cache] | None = None
    ) -> tuple[Tensor, list[Cache]]:
        """Hidden states [B, T, D] and the grown cache, for embeddings x and positions [3, T]."""
        cos, sin = text_angles(positions)
        grown = []
        for number, layer in enumerate(self.layers):
            q, k, v = layer.project(x, cos, sin)
            if past is not None:
                k, v = torch.cat((past[number][0], k), 2), torch.cat((past[number][1], v), 2)
            grown.append((k, v))
            x = layer.finish(x, q, k, v, mask)
        return self.norm(x), grown


class PatchEmbed(nn.Module):
    """Patches to vectors. The checkpoint's kernel spans two equal frames; here it is their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(3 * cp.PATCH**2, cp.VISION_WIDTH, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """[..., 3 * 28 * 28] -> [..., 256]."""
        result: Tensor = self.proj(pixels)
        return result


class VisionAttention(nn.Module):
    """Attention among an image's patches."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(cp.VISION_WIDTH, 3 * cp.VISION_WIDTH)
        self.proj = nn.Linear(cp.VISION_WIDTH, cp.VISION_WIDTH)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[images, patches, 256] -> the same."""
        q, k, v = self.qkv(x).unflatten(-1, (3, cp.VISION_HEADS, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q.float(), cos, sin).to(v.dtype), rotate(k.float(), cos, sin).to(v.dtype)
        out = fn.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return result


class VisionMlp(nn.Module):
    """Feed-forward layer with x * sigmoid(1.702 x)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(cp.VISION_WIDTH, 4 * cp.VISION_WIDTH)
        self.fc2 = nn.Linear(4 * cp.VISION_WIDTH, cp.VISION_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[..., 256] -> [..., 256]."""
        x = self.fc1(x)
        result: Tensor = self.fc2(x * torch.sigmoid(1.702 * x))
        return result


class VisionBlock(nn.Module):
    """A layer of the vision part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(cp.VISION_WIDTH, eps=1e-6)
        self.norm2 = nn.LayerNorm(cp.VISION_WIDTH, eps=1e-6)
        self.attn = VisionAttention()
        self.mlp = VisionMlp()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[images, patches, 256] -> the same."""
        x = x + self.attn(self.norm1(x), cos, sin)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Merger(nn.Module):
    """Four patches to one visual token."""

    def __init__(self) -> None:
        super().__init__()
        wide = cp.VISION_WIDTH * cp.MERGE**2
        self.ln_q = nn.LayerNorm(cp.VISION_WIDTH, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, cp.HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        """[images, 4 * V, 256] -> [images, V, D]."""
        result: Tensor = self.mlp(self.ln_q(x).unflatten(1, (-1, cp.MERGE**2)).flatten(2))
        return result


class VisionModel(nn.Module):
    """The vision part."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.blocks = nn.ModuleList(VisionBlock() for _ in range(cp.VISION_DEPTH))
        self.merger = Merger()

    def forward(self, pixels: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Visual tokens [images, V, D].

        Args:
            pixels: [images, patches, 3 * 28 * 28] in -1..1, the four patches of a visual token
                side by side (`patch_places` gives the order).
            rows, cols: where each patch stands, [patches].
        """
        cos, sin = image_angles(rows, cols)
        x = self.patch_embed(pixels)
        for block in self.blocks:
            x = block(x, cos, sin)
        result: Tensor = self.merger(x)
        return result


def patch_places(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Row and column of each patch of rows x cols visual tokens, token by token: [4 * V]."""
    grid = torch.stack(
        torch.meshgrid(torch.arange(2 * rows), torch.arange(2 * cols), indexing="ij")
    )
    by_token = grid.unflatten(1, (rows, 2)).unflatten(3, (cols, 2)).permute(0, 1, 3, 2, 4)
    places = by_token.flatten(1)
    return places[0], places[1]


class TinyModel(nn.Module):
    """Both parts; the output layer shares its weights with the token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = VisionModel()
        self.language_model = TextModel()

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., vocabulary]."""
        return fn.linear(hidden, self.language_model.embed_tokens.weight)


def to_checkpoint(model: TinyModel) -> dict[str, Tensor]:
    """The state dict as transformers and vLLM want it, bfloat16."""
    result = {}
    for name, tensor in model.state_dict().items():
        if name == "visual.patch_embed.proj.weight":
            kernel = tensor.float().unflatten(1, (3, 1, cp.PATCH, cp.PATCH)) / 2
            tensor = kernel.expand(-1, -1, 2, -1, -1)
        prefix = "" if name.startswith("visual.") else "model."
        key = prefix + name.removeprefix("language_model.")
        result[key] = tensor.detach().to("cpu", torch.bfloat16).contiguous()
    return result


def from_checkpoint(tensors: dict[str, Tensor]) -> TinyModel:
    """A model with a checkpoint's weights, float32."""
    model = TinyModel()
    state = {}
    for key, tensor in tensors.items():
        name = key if key.startswith("visual.") else "language_model." + key.removeprefix("model.")
        tensor = tensor.float()
        if name == "visual.patch_embed.proj.weight":
            tensor = tensor.sum(2).flatten(1)
        state[name] = tensor
    model.load_state_dict(state)
    return model
