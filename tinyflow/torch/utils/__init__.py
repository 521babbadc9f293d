"""torch.utils"""

from tinyflow.torch.utils import checkpoint, data
