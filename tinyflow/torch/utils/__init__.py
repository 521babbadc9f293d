"""torch.utils"""

from tinyflow.torch.utils import data
