"""LoRA adapters: what is accepted, where they come from, and their integer form.

A folder in PEFT's layout or a Hugging Face repository is checked from its header before a tensor is read (`folder`,
`settings`), quantised into one piece of memory (`pack`), and kept on disk in that form (`disk`).
"""

from openledger.kernels.engine.adapters.errors import AdapterRefused as AdapterRefused
from openledger.kernels.engine.adapters.folder import AdapterInfo as AdapterInfo
from openledger.kernels.engine.adapters.folder import adapter_digest as adapter_digest
from openledger.kernels.engine.adapters.folder import inspect_adapter as inspect_adapter
from openledger.kernels.engine.adapters.folder import load_adapter as load_adapter
from openledger.kernels.engine.adapters.pack import read_adapter as read_adapter
from openledger.kernels.engine.adapters.shapes import group_shapes as group_shapes
from openledger.kernels.engine.adapters.shapes import module_shape as module_shape
from openledger.kernels.ops.lora_layout import ModuleWeights as ModuleWeights
