// What generation keeps in memory, as the caches of mlx-lm 0.32 do: keys and values of every layer
// that looks at the whole context, a bounded window where mlx-lm has a rotating or chunked cache
// (it ignores the windows of mistral, qwen2, phi3 and gemma2), latents for MLA, and the constant
// state of gated delta nets: the convolution's last inputs in 16 bits, the matrix in F32.

#include "ram/family/tensor_layout.h"

namespace ram {

StateSize StateSizeOf(const ModelShape& shape) {
  constexpr uint64_t kActivationBytes = 2;
  constexpr uint64_t kStateBytes = 4;
  StateSize state;
  state.window_tokens = shape.window_tokens;
  const bool latent = shape.family->latent_attention;
  const uint64_t per_layer = latent ? shape.dim(Dim::kMlaKvA) : 2 * shape.dim(Dim::kKv);
  for (const LayerShape& layer : shape.layers) {
    switch (layer.attention) {
      case LayerAttention::kFull:
        state.cache_elements_per_token += per_layer;
        if (latent) state.latent_elements_per_token += per_layer;
        break;
      case LayerAttention::kSliding:
        state.window_cache_elements_per_token += per_layer;
        break;
      case LayerAttention::kLinear:
        state.recurrent_bytes +=
            (shape.dim(Dim::kConvKernel) - 1) * shape.dim(Dim::kLinearQkv) * kActivationBytes +
            shape.dim(Dim::kLinearValue) * shape.dim(Dim::kLinearKeyDim) * kStateBytes;
        break;
    }
  }
  return state;
}

}  // namespace ram
