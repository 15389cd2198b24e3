import os
import random
import signal

import numpy as np
import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell's background job ignores Ctrl-C, which some tests press
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not torch.cuda.is_available():
    # our kernels run in Triton's interpreter; it reads this when a kernel is defined
    os.environ.setdefault("TRITON_INTERPRET", "1")

# fixtures of modules are made before those of tests, and sums depend on the number of threads
torch.set_num_threads(1)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed():
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session", params=DEVICES)
def device(request):
    """Every device there is. On CUDA, float32 means float32: TF32 keeps ten bits of it."""
    if request.param == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(request.param)
