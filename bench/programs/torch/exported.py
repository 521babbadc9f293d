"""The step of the programs that are asked, not trained, as onnxruntime runs what PyTorch exports."""

import io
import os

import torch

from bench.programs.torch.inference import asked


def session(model, inputs):
    """What runs the model, and the names of its inputs."""
    import onnxruntime

    names = [f"x{k}" for k in range(len(inputs))]
    file = io.BytesIO()
    torch.onnx.export(model, inputs, file, input_names=names, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))  # 0: as it likes
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"]), names


def make(program, weights, settings):
    model, kept = asked(program, weights, settings)
    run, names, stateful = None, [], bool(kept)
    kept = [k.numpy() for k in kept]
    place, context = 0, settings.get("context", 1)

    def step(x):
        nonlocal run, names, kept, place
        given = [x, torch.tensor([place]).numpy(), *kept] if stateful else [x]
        if run is None:
            with torch.no_grad():
                run, names = session(model, tuple(map(torch.from_numpy, given)))
        scores, *kept = run.run(None, dict(zip(names, given)))
        place = (place + 1) % context
        return scores

    return step
