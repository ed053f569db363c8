"""The weight formats: one file each. A new one is a file and a word below."""

from formats.bf16 import BF16
from formats.f16 import F16
from formats.f32 import F32_
from formats.format import WeightFormat
from formats.iq4_nl import IQ4_NL
from formats.iq4_xs import IQ4_XS
from formats.mxfp4 import MXFP4
from formats.q2_k import Q2_K
from formats.q3_k import Q3_K
from formats.q4_0 import Q4_0
from formats.q4_1 import Q4_1
from formats.q4_k import Q4_K
from formats.q5_0 import Q5_0
from formats.q5_1 import Q5_1
from formats.q5_k import Q5_K
from formats.q6_k import Q6_K
from formats.q8_0 import Q8_0

comptime ALL_FORMATS = TypeList.of[
    Trait=WeightFormat,
    F32_,
    F16,
    BF16,
    Q8_0,
    Q6_K,
    Q5_K,
    Q4_K,
    Q3_K,
    Q2_K,
    Q5_1,
    Q5_0,
    Q4_1,
    Q4_0,
    IQ4_XS,
    IQ4_NL,
    MXFP4,
]()
"""Every format the kernels compute with; all dispatch and tests walk it."""
