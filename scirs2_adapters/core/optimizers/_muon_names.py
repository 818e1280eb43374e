"""What a parameter's layer and name say of it: whether it is an embedding or a head, a bias or a gain, a stack.

Only the last two components of a path count, the layer's and the parameter's: a container further up may be called
`classifier` or `digit_classifier` and hold nothing but hidden layers. What wraps a module, or a parameter of it, under
a name of its own is no component.
"""

import re

#: Components that wrappers put in: torch.compile, FSDP, activation checkpoints, DDP, PEFT, parametrizations, Flax.
WRAPPERS = re.compile(
    r"_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module|base_layer|original_module|modules_to_save"
    r"|default|parametrizations|original\d*"
)
#: What Keras and Flax write behind a parameter's name.
TAIL = re.compile(r":\d+$|\.(raw_)?value$")
#: A number at the end, as frameworks give to layers of one name.
NUMBER = re.compile(r"_?\d+$")

EMBEDDING = re.compile(r"\w*embed\w*|\w*_emb|wte|wpe|shared|relative_attention_bias|\w*codebook\w*")
HEAD = re.compile(r"\w*head|\w*classifier|\w*logits|predictions|score|qa_outputs|output|decoder")
GAIN = re.compile(r"(\w*_)?(bias(es)?|gain|scale|gamma|beta)|\w*bias_table")
NORM = re.compile(r"\w*norm")
STACK = re.compile(r"\w*experts\w*")
CONVOLUTION = re.compile(r"\w*conv\w*")
#: Layers whose kernels have two axes of outputs at the end, where inputs lie first: heads, or a multiplier.
TWO_OUTPUTS = re.compile(r"query|key|value|depthwise\w*")
#: Layers behind them, which have the heads for inputs.
ATTENDED = re.compile(r"(\w*_)?out(put)?(_proj)?")


def components(name: str) -> list[str]:
    """The layer's name and the parameter's, or the parameter's alone; in lower case and without numbers at the end."""
    words = re.findall(r"\w+", TAIL.sub("", name))
    kept = [word for word in words if not WRAPPERS.fullmatch(word)] or words
    return [NUMBER.sub("", word.lower()) or word for word in kept[-2:]]


def is_a(kind: re.Pattern[str], name: str) -> bool:
    """Whether the layer or the parameter itself has a name of this kind."""
    return any(map(kind.fullmatch, components(name)))


def layer_is_a(kind: re.Pattern[str], name: str) -> bool:
    """Whether the layer has one."""
    return any(map(kind.fullmatch, components(name)[:-1]))


def last_is_a(kind: re.Pattern[str], name: str) -> bool:
    """Whether the parameter itself has one."""
    return any(map(kind.fullmatch, components(name)[-1:]))
