"""Imperative with JIT: a function is traced once, cut at what cannot be static, guarded, and run many times."""
import contextlib
import io

import tinyflow.torch as torch


# A step of a recurrent network, compiled
@torch.compile()
def step(W_h, W_x, x, prev_h):
    i2h = torch.mm(W_x, x.t())
    h2h = torch.mm(W_h, prev_h.t())
    next_h = (i2h + h2h).tanh()
    return next_h, next_h.sum()


W_h = torch.randn(20, 20, requires_grad=True)
W_x = torch.randn(20, 10, requires_grad=True)
x = torch.randn(1, 10)
prev_h = torch.randn(1, 20)
next_h, loss = step(W_h, W_x, x, prev_h)
loss.backward()
print("gradients of the recurrent step:", tuple(W_h.grad.shape), tuple(W_x.grad.shape))
slope = (1 - next_h * next_h).detach()
assert torch.allclose(W_x.grad, slope @ x, atol=1e-6)
assert torch.allclose(W_h.grad, slope @ prev_h, atol=1e-6)


# A square, compiled
@torch.compile()
def square(x, y):
    z = x - y
    return torch.square(z)


x = torch.tensor([3.], requires_grad=True)
y = torch.tensor([2.])
loss = square(x, y)
loss.backward()
print(x.grad)
assert str(x.grad) == "tensor([2.])"


# Case 1: a static graph of [x, c1, c2], with x varying
@torch.compile()
def line(x, c1, c2):
    return c1 * x + c2


c1, c2 = torch.tensor([1., 2., 3.]), torch.tensor([10., 10., 10.])
for n in (1, 2, 3, 7, 64, 1000):
    assert line(n, c1, c2).tolist() == [n + 10, 2 * n + 10, 3 * n + 10]
print("\ncase 1, x a number: 1, 2, 3, 7, 64 and 1000 took", line.compilations, "compilations")
assert line.compilations <= 3


@torch.compile()
def mean_line(x, c1, c2):
    return (c1 * x + c2).sum(dim=0) / x.shape[0]


for n in (1, 2, 3, 7, 64, 1000):
    assert torch.allclose(mean_line(torch.ones(n, 3), c1, c2), c1 + c2)
print("case 1, x of so many rows:", mean_line.compilations, "compilations\n")
assert mean_line.compilations <= 3
print(mean_line.explain())


# Case 2: static, then dynamic, then static
def middle(x, W):
    h = torch.tanh(x @ W)
    print("in the middle")
    if h.sum() > 0:
        y = h * 2
    else:
        y = h - 1
    return y.square().sum()


def run(f, *args):
    """What a call prints, and what it gives."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = f(*args)
    return printed.getvalue(), result.item()


compiled = torch.compile(middle)
W = torch.ones(4, 3)
for x in (torch.ones(2, 4), -torch.ones(2, 4), torch.ones(2, 4)):
    assert run(compiled, x, W) == run(middle, x, W)
print("\ncase 2: both outcomes give and print what the plain function does\n")
print(compiled.explain())
assert 'print("in the middle")' in compiled.explain().replace("'", '"')
