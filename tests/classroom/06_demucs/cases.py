"""Answers to assignment 6 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------ 1, what the strides leave over

PADDING_BY_CEIL = """
def unheard(length, layers):
    lost, steps, samples = 0, length, 1                        # samples: from one step to the next
    for kernel, stride, context in layers:
        if steps < kernel:
            return length
        lost += (steps - kernel) % stride * samples
        steps = 1 + (steps - kernel) // stride
        samples *= stride
    return lost

def padding(length, layers):
    n = length
    for kernel, stride, context in layers:
        n = max(1, math.ceil((n - kernel) / stride) + 1) + context - 1
    padded, output = n, n
    for kernel, stride, context in layers[::-1]:
        padded = (padded - 1) * stride + kernel
        output = (output - 1 - (context - 1)) * stride + kernel
    zeros = padded - length
    return zeros // 2, zeros - zeros // 2, output
"""
PADDING_BY_TRYING = """
def unheard(length, layers):
    reach, jump = 1, 1
    for kernel, stride, _ in layers:
        reach, jump = reach + (kernel - 1) * jump, jump * stride
    n = length
    for kernel, stride, _ in layers:
        if n < kernel:
            return length
        n = (n - kernel) // stride + 1
    return length - reach - (n - 1) * jump

def padding(length, layers):
    sees, jump, cost = 1, 1, 0
    for kernel, stride, context in layers:
        sees += (kernel - 1) * jump
        jump *= stride
        cost += (context - 1) * jump
    n = max(1, (length + cost - sees) // jump)                  # steps in the middle, or a few less
    while True:
        up, well = n, True
        for kernel, stride, context in reversed(layers):
            well = well and up >= context
            up = (up - context) * stride + kernel
        if well and up >= length:
            break
        n += 1
    total = sees + (n - 1) * jump - length
    before = int(total / 2)
    return [before, total - before, up]
"""
PADDING_RECURSIVE = """
def unheard(length, layers):
    if not layers:
        return 0
    (kernel, stride, _), *inner = layers
    if length < kernel:
        return length
    steps, rest = divmod(length - kernel, stride)
    over = unheard(steps + 1, inner)
    return length if over == steps + 1 else rest + over * stride

def padding(length, layers):
    def through(needed, layers):
        if not layers:
            return needed, needed
        (kernel, stride, context), *inner = layers
        steps = 1
        if needed > kernel:
            steps = 1 + (needed - kernel + stride - 1) // stride
        down, up = through(steps + context - 1, inner)
        return (down - 1) * stride + kernel, (up - context) * stride + kernel
    down, up = through(length, list(layers))
    return (down - length) // 2, (down - length) - (down - length) // 2, up
"""
PADDING_RIGHT = {
    "ceiling": PADDING_BY_CEIL,
    "one step more until it is enough": PADDING_BY_TRYING,
    "recursion": PADDING_RECURSIVE,
}
PADDING_WRONG = {
    "the rests added up as they are": changed(PADDING_BY_CEIL, ("% stride * samples", "% stride")),
    "only the outermost layer's rest": changed(
        PADDING_BY_CEIL, ("lost += (steps - kernel) % stride * samples", "lost = lost or (steps - kernel) % stride")),
    "a rest counted in steps of its own layer": changed(
        PADDING_BY_CEIL, ("        samples *= stride\n", ""),
        ("        lost +=", "        samples *= stride\n        lost +="),
    ),
    "the length's rest": changed(PADDING_BY_CEIL, ("(steps - kernel) % stride", "steps % stride")),
    "nothing lost where there is no step": changed(PADDING_BY_CEIL, ("return length", "return lost")),
    "no step too short": changed(PADDING_BY_CEIL, ("        if steps < kernel:\n            return length\n", "")),
    "too short counted as 0": changed(PADDING_BY_TRYING, ("            return length\n", "            return 0\n")),
    "a song as long as the kernel is too short": changed(PADDING_BY_CEIL, ("if steps < kernel", "if steps <= kernel")),
    "the context forgotten": changed(PADDING_BY_CEIL, (" + 1) + context - 1", " + 1)")),
    "the context of the output forgotten": changed(
        PADDING_BY_CEIL, ("(output - 1 - (context - 1)) * stride", "(output - 1) * stride")),
    "the context on either side": changed(
        PADDING_BY_CEIL, (" + 1) + context - 1", " + 1) + 2 * (context - 1)"),
        ("(context - 1)) * stride", "2 * (context - 1)) * stride")),
    "padded for the input only": changed(
        PADDING_BY_CEIL, ("        n = max(1, math.ceil((n - kernel) / stride) + 1) + context - 1",
                          "        n = max(1, math.ceil((n - kernel) / stride) + 1)"),
        ("(output - 1 - (context - 1))", "(output - 1)")),
    "rounded down": changed(PADDING_BY_CEIL, ("math.ceil((n - kernel) / stride)", "(n - kernel) // stride")),
    "always a stride more": changed(
        PADDING_BY_CEIL, ("math.ceil((n - kernel) / stride)", "(n - kernel) // stride + 1")),
    "no step needed": changed(PADDING_BY_CEIL, ("max(1, math.ceil((n - kernel) / stride) + 1)",
                                                "math.ceil((n - kernel) / stride) + 1")),
    "the last layer first": changed(
        PADDING_BY_CEIL, ("    n = length\n    for kernel, stride, context in layers:",
                          "    n = length\n    for kernel, stride, context in layers[::-1]:"),
        ("    for kernel, stride, context in layers[::-1]:\n        padded",
         "    for kernel, stride, context in layers:\n        padded")),
    "one more before": changed(PADDING_BY_CEIL, ("return zeros // 2, zeros - zeros // 2, output",
                                                 "return zeros - zeros // 2, zeros // 2, output")),
    "all zeros behind": changed(PADDING_BY_CEIL, ("return zeros // 2, zeros - zeros // 2, output",
                                                  "return 0, zeros, output")),
    "a multiple of the strides' product": """
def unheard(length, layers):
    lost, steps, samples = 0, length, 1
    for kernel, stride, context in layers:
        if steps < kernel:
            return length
        lost += (steps - kernel) % stride * samples
        steps = 1 + (steps - kernel) // stride
        samples *= stride
    return lost

def padding(length, layers):
    product = math.prod(stride for _, stride, _ in layers)
    padded = -(-length // product) * product
    return (padded - length) // 2, (padded - length + 1) // 2, padded
""",
    "the innermost layer's context only": changed(
        PADDING_BY_CEIL,
        ("math.ceil((n - kernel) / stride) + 1) + context - 1", "math.ceil((n - kernel) / stride) + 1)"),
        ("    padded, output = n, n\n", "    n += layers[-1][2] - 1 if layers else 0\n    padded, output = n, n\n")),
    "the output's middle": changed(PADDING_BY_CEIL, ("zeros // 2, output", "zeros // 2, length")),
    "floats": changed(PADDING_BY_CEIL, ("zeros // 2, zeros - zeros // 2, output",
                                        "zeros // 2, zeros - zeros // 2, float(output)")),
    "contexts taken to be odd": changed(
        PADDING_BY_CEIL, (" + 1) + context - 1", " + 1) + context // 2 * 2"),
        ("(context - 1)) * stride", "context // 2 * 2) * stride")),
    "only the outermost layer can be too short for a step": changed(
        PADDING_BY_CEIL, ("if steps < kernel", "if length < layers[0][0]")),
    "the layers turned round in place": changed(
        PADDING_BY_CEIL, ("    for kernel, stride, context in layers[::-1]:",
                          "    layers.reverse()\n    for kernel, stride, context in layers:")),
    "two layers at most": changed(PADDING_BY_CEIL, ("    n = length\n", "    n, layers = length, layers[:2]\n")),
    "a layer at least": changed(
        PADDING_BY_TRYING, ("    reach, jump = 1, 1\n", "    reach, jump = layers[0][0], layers[0][1]\n"),
        ("    for kernel, stride, _ in layers:\n        reach, jump",
         "    for kernel, stride, _ in layers[1:]:\n        reach, jump")),
    "kernels that the stride divides": changed(
        PADDING_BY_CEIL, ("math.ceil((n - kernel) / stride) + 1)", "math.ceil(n / stride) - kernel // stride + 1)")),
    "the first layer's sizes for all": changed(
        PADDING_BY_CEIL, ("    n = length\n", "    layers = [layers[0]] * len(layers)\n    n = length\n")),
}

# ------------------------------------------------------------------------------------------- 2, the mean over shifts

SHIFTS_BY_CAT = """
def mean_over_shifts(model, mixture, shifts):
    longest, found = max(shifts), []
    for shift in shifts:
        before = mixture.new_zeros(*mixture.shape[:-1], shift)
        after = mixture.new_zeros(*mixture.shape[:-1], longest - shift)
        estimate = model(torch.cat([before, mixture, after], dim=-1))
        found.append(estimate[..., shift:shift + mixture.shape[-1]])
    return torch.stack(found).mean(0)
"""
SHIFTS_IN_ONE_BATCH = """
def mean_over_shifts(model, mixture, shifts):
    most, time = max(shifts), mixture.shape[-1]
    padded = F.pad(mixture, (most, most))
    copies = torch.cat([padded[..., most - s:2 * most - s + time] for s in shifts])
    estimates = model(copies).unflatten(0, (len(shifts), -1))
    return sum(estimates[i, ..., s:s + time] / len(shifts) for i, s in enumerate(shifts))
"""
SHIFTS_BY_ROLL = """
def mean_over_shifts(model, mixture, shifts):
    padded = F.pad(mixture, (0, max(shifts)))                      # room for what comes later
    total = None
    for shift in shifts:
        estimate = model(padded.roll(shift, -1)).roll(-shift, -1)
        total = estimate if total is None else total + estimate
    return total[..., :mixture.shape[-1]] / len(shifts)
"""
SHIFTS_RIGHT = {
    "zeros joined on": SHIFTS_BY_CAT,
    "all copies in one batch": SHIFTS_IN_ONE_BATCH,
    "rolled within the zeros": SHIFTS_BY_ROLL,
}
SHIFTS_WRONG = {
    "not brought back": changed(SHIFTS_BY_CAT, ("estimate[..., shift:shift + mixture.shape[-1]]",
                                                "estimate[..., :mixture.shape[-1]]")),
    "brought back the wrong way": changed(
        SHIFTS_BY_CAT, ("estimate[..., shift:shift + mixture.shape[-1]]",
                        "estimate[..., longest - shift:longest - shift + mixture.shape[-1]]")),
    "shifted the other way": changed(
        SHIFTS_BY_CAT, ("[before, mixture, after]", "[after, mixture, before]"),
        ("estimate[..., shift:shift", "estimate[..., longest - shift:longest - shift")),
    "rolled around": changed(SHIFTS_BY_ROLL, ("F.pad(mixture, (0, max(shifts)))", "mixture")),
    "a sum": changed(SHIFTS_BY_CAT, (".mean(0)", ".sum(0)")),
    "the median": changed(SHIFTS_BY_CAT, (".mean(0)", ".median(0).values")),
    "the mean over the batch": changed(SHIFTS_BY_CAT, (".mean(0)", ".mean(1)")),
    "each shift once": changed(SHIFTS_BY_CAT, ("for shift in shifts", "for shift in set(shifts)")),
    "divided by the largest shift": changed(SHIFTS_BY_ROLL, ("/ len(shifts)", "/ max(shifts)")),
    "copies of different lengths": changed(SHIFTS_BY_CAT, ("[before, mixture, after]", "[before, mixture]")),
    "zeros of the largest shift behind each": changed(
        SHIFTS_BY_CAT, ("*mixture.shape[:-1], longest - shift)", "*mixture.shape[:-1], longest)")),
    "zeros of the largest shift on both sides": changed(
        SHIFTS_IN_ONE_BATCH, ("padded[..., most - s:2 * most - s + time]", "padded.roll(s, -1)"),
        ("[i, ..., s:s + time]", "[i, ..., most + s:most + s + time]")),
    "the end of the song cut off": changed(
        SHIFTS_BY_CAT, ("[before, mixture, after]", "[before, mixture[..., :mixture.shape[-1] - shift], after]"),
        ("found.append(estimate[..., shift:shift + mixture.shape[-1]])",
         "found.append(F.pad(estimate[..., shift:mixture.shape[-1]], (0, shift)))")),
    "a slice that is empty for 0": changed(
        SHIFTS_BY_CAT, ("estimate[..., shift:shift + mixture.shape[-1]]",
                        "estimate[..., shift:-(longest - shift)]")),
    "the first shift counts twice": changed(
        SHIFTS_BY_ROLL, ("        total =", "        total = estimate if total is None else total\n        total =")),
    "a running mean": """
def mean_over_shifts(model, mixture, shifts):
    most, time, mean = max(shifts), mixture.shape[-1], None
    for shift in shifts:
        estimate = model(F.pad(mixture, (shift, most - shift)))[..., shift:shift + time]
        mean = estimate if mean is None else (mean + estimate) / 2
    return mean
""",
    "no gradient": changed(SHIFTS_BY_CAT, ("estimate = model(torch.cat([before, mixture, after], dim=-1))",
                                           "estimate = model(torch.cat([before, mixture, after], dim=-1)).detach()")),
    "float32 all the time": changed(
        SHIFTS_BY_CAT, ("    longest, found", "    mixture = mixture.float()\n    longest, found")),
    "zeros in float32": changed(
        SHIFTS_BY_ROLL, ("F.pad(mixture, (0, max(shifts)))",
                         "torch.zeros(*mixture.shape[:-1], mixture.shape[-1] + max(shifts))\n"
                         "    padded[..., :mixture.shape[-1]] = mixture")),
    "the ends held instead of zeros": changed(
        SHIFTS_BY_CAT, ("torch.cat([before, mixture, after], dim=-1)",
                        "F.pad(mixture, (shift, longest - shift), mode='replicate')")),
    "the shift sorted in place": changed(SHIFTS_BY_CAT, ("    longest, found = max(shifts)",
                                                         "    shifts.sort()\n    longest, found = shifts[-1]")),
    "the song scaled in place": """
def mean_over_shifts(model, mixture, shifts):
    mixture /= len(shifts)
    most, time = max(shifts), mixture.shape[-1]
    return sum(model(F.pad(mixture, (s, most - s)))[..., s:s + time] for s in shifts)
""",
    "the largest shift taken to be the last": changed(SHIFTS_BY_CAT, ("max(shifts)", "shifts[-1]")),
    "a shift longer than the song goes around": changed(
        SHIFTS_BY_CAT,
        ("    longest, found", "    shifts = [s % mixture.shape[-1] for s in shifts]\n    longest, found")),
    "the first channel only": changed(SHIFTS_BY_CAT, ("estimate[..., shift:", "estimate[:, :, :1, shift:")),
    "two sources, as in the visible check": changed(
        SHIFTS_BY_CAT, ("estimate[..., shift:", "estimate[:, :2, :, shift:")),
    "the first two shifts, unless the song is long": changed(
        SHIFTS_BY_CAT, ("for shift in shifts", "for shift in shifts[:max(2, mixture.shape[-1] // 4)]")),
    "silence kept from the model": changed(
        SHIFTS_BY_CAT, ("    return torch.stack(found)",
                        "    if not mixture.any():\n        return 0 * torch.stack(found)[0]\n"
                        "    return torch.stack(found)")),
    "estimates only where the mixture sounds": changed(
        SHIFTS_BY_CAT, (".mean(0)", ".mean(0) * (mixture != 0).unsqueeze(1)")),
    "silence taken for the song's end": """
def mean_over_shifts(model, mixture, shifts):
    most, total = max(shifts), 0
    time = int(mixture.abs().amax((0, 1)).gt(1e-6).nonzero().max()) + 1
    for shift in shifts:
        estimate = model(F.pad(mixture[..., :time], (shift, most - shift)))[..., shift:shift + time]
        total = total + F.pad(estimate, (0, mixture.shape[-1] - time))
    return total / len(shifts)
""",
}

# ------------------------------------------------------------------------------------------- 3, equally large weights

BALANCED_BY_NUMBERS = """
def balanced(weights, biases):
    deviations = [weight.std().item() for weight in weights]
    common = math.exp(sum(map(math.log, deviations)) / len(deviations))
    new_weights, new_biases, so_far = [], [], 1.0
    for weight, bias, deviation in zip(weights, biases, deviations):
        so_far = so_far * (common / deviation)
        new_weights.append(weight * (common / deviation))
        new_biases.append(None if bias is None else bias * so_far)
    return new_weights, new_biases
"""
BALANCED_IN_FLOAT64 = """
def balanced(weights, biases):
    std = torch.stack([w.double().std() for w in weights])
    factors = std.prod() ** (1 / len(std)) / std
    total = torch.cumprod(factors, 0)
    new_weights = [(w * f).to(w.dtype) for w, f in zip(weights, factors)]
    new_biases = []
    for b, t in zip(biases, total):
        new_biases.append(b if b is None else (b.double() * t).to(b.dtype))
    return [new_weights, new_biases]
"""
BALANCED_PAIR_BY_PAIR = """
def balanced(weights, biases):
    weights = [w.clone() for w in weights]
    biases = [None if b is None else b.clone() for b in biases]
    logs = [math.log(float(w.std())) for w in weights]
    common = sum(logs) / len(logs)
    for i in range(len(weights) - 1):                     # what layer i gives away, the next takes
        c = math.exp(common - math.log(float(weights[i].std())))
        weights[i] = c * weights[i]
        weights[i + 1] = weights[i + 1] / c
        if biases[i] is not None:
            biases[i] = c * biases[i]
    return weights, biases
"""
BALANCED_RIGHT = {
    "Python's numbers": BALANCED_BY_NUMBERS,
    "products in float64": BALANCED_IN_FLOAT64,
    "each layer with the next": BALANCED_PAIR_BY_PAIR,
}
BALANCED_WRONG = {
    "biases left as they are": changed(BALANCED_BY_NUMBERS, ("bias * so_far", "bias")),
    "biases with their own layer's factor only": changed(
        BALANCED_BY_NUMBERS, ("bias * so_far", "bias * (common / deviation)")),
    "biases without their own layer's factor": changed(
        BALANCED_BY_NUMBERS, ("bias * so_far", "bias * (so_far / (common / deviation))")),
    "biases divided": changed(BALANCED_BY_NUMBERS, ("bias * so_far", "bias / so_far")),
    "a factor only counts at a layer with bias": changed(
        BALANCED_BY_NUMBERS, ("so_far = so_far * (common / deviation)",
                              "so_far = so_far * (1.0 if bias is None else common / deviation)")),
    "the arithmetic mean": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))",
                              "sum(deviations) / len(deviations)")),
    "the root of the mean square": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))",
                              "(sum(d * d for d in deviations) / len(deviations)) ** 0.5")),
    "the harmonic mean": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))",
                              "len(deviations) / sum(1 / d for d in deviations)")),
    "the first layer's deviation": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))", "deviations[0]")),
    "all to 0.1": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))", "0.1")),
    "the deviation of all weights together": changed(
        BALANCED_BY_NUMBERS, ("math.exp(sum(map(math.log, deviations)) / len(deviations))",
                              "torch.cat([w.flatten() for w in weights]).std().item()")),
    "as at the beginning of the training": """
def balanced(weights, biases):
    new_weights, new_biases = [], []
    for weight, bias in zip(weights, biases):
        alpha = (weight.std() / 0.1) ** 0.5
        new_weights.append(weight / alpha)
        new_biases.append(bias if bias is None else bias / alpha)
    return new_weights, new_biases
""",
    "half of the way": changed(
        BALANCED_BY_NUMBERS, ("so_far * (common / deviation)", "so_far * (common / deviation) ** 0.5"),
        ("weight * (common / deviation)", "weight * (common / deviation) ** 0.5")),
    "the size for the deviation": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight.square().mean().sqrt().item() for")),
    "the other deviation": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight.std(correction=0).item() for")),
    "the mean size": changed(BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight.abs().mean().item() for")),
    "a factor for each channel": """
def balanced(weights, biases):
    std = [w.std() for w in weights]
    common = torch.stack(std).log().mean().exp()
    new_weights = [w * common / w.flatten(1).std(1).reshape(-1, *[1] * (w.ndim - 1)) for w in weights]
    total = torch.cumprod(common / torch.stack(std), 0)
    return new_weights, [b if b is None else b * t for b, t in zip(biases, total)]
""",
    "the weights' means taken off": changed(
        BALANCED_BY_NUMBERS, ("weight * (common / deviation)", "(weight - weight.mean()) * (common / deviation)")),
    "every layer must have a bias": changed(
        BALANCED_BY_NUMBERS, ("None if bias is None else bias * so_far", "bias * so_far")),
    "zeros for a missing bias": changed(
        BALANCED_BY_NUMBERS, ("None if bias is None", "torch.zeros(len(weight)) if bias is None")),
    "a product that underflows": changed(
        BALANCED_IN_FLOAT64, ("w.double().std()", "w.std()"), ("(w * f).to(w.dtype)", "w * f"),
        ("(b.double() * t).to(b.dtype)", "b * t")),
    "a constant against division by zero": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight.std().item() + 1e-6 for")),
    "deviations no smaller than 1e-6": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "max(weight.std().item(), 1e-6) for")),
    "a bias of zeros taken for none": changed(
        BALANCED_BY_NUMBERS, ("None if bias is None", "None if bias is None or not bias.any()")),
    "weights of three axes": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight.std((0, 1, 2)).item() for")),
    "zeros among the weights left out": changed(
        BALANCED_BY_NUMBERS, ("weight.std().item() for", "weight[weight != 0].std().item() for")),
    "the factors of layers of more than ten times left alone": changed(
        BALANCED_BY_NUMBERS, ("zip(weights, biases, deviations):",
                              "zip(weights, biases, [min(max(d, common / 1e3), common * 1e3) for d in deviations]):")),
    "the last layer not balanced": changed(
        BALANCED_BY_NUMBERS, ("    return", "    new_weights[-1] = weights[-1]\n    return")),
    "the last layer takes all back": """
def balanced(weights, biases):
    first, so_far = weights[0].std(), 1.0
    new_weights, new_biases = [], []
    for weight, bias in zip(weights, biases):
        factor = first / weight.std()
        so_far = so_far * factor
        new_weights.append(weight * factor)
        new_biases.append(None if bias is None else bias * so_far)
    new_weights[-1] = new_weights[-1] / so_far
    new_biases[-1] = biases[-1]
    return new_weights, new_biases
""",
    "in place": """
def balanced(weights, biases):
    deviations = [weight.std().item() for weight in weights]
    common, so_far = math.exp(sum(map(math.log, deviations)) / len(deviations)), 1.0
    for weight, bias, deviation in zip(weights, biases, deviations):
        so_far = so_far * (common / deviation)
        weight *= common / deviation
        if bias is not None:
            bias *= so_far
    return weights, biases
""",
    "float32 all the time": changed(
        BALANCED_BY_NUMBERS, ("weight * (common / deviation)", "(weight * (common / deviation)).float()")),
    "a sign turned twice": changed(
        BALANCED_BY_NUMBERS, ("weight * (common / deviation)", "-weight * (common / deviation)")),
    "three layers, as in the visible check": changed(BALANCED_BY_NUMBERS, (" / len(deviations))", " / 3)")),
}

# --------------------------------------------------------------------------------------------------- 4, mend a kernel

MENDED_BY_COUNTS = """
def without_tones(weight, stride):
    kernel = weight.shape[-1]
    phase = torch.arange(kernel) % stride                                        # (kernel,)
    sums = torch.stack([weight[..., phase == i].sum(-1) for i in range(stride)], -1)
    counts = torch.bincount(phase, minlength=stride).to(weight.dtype)
    change = (weight.sum(-1, keepdim=True) / stride - sums) / counts             # (input, output, phase)
    return weight + change[..., phase]
"""
MENDED_BY_SHAPE = """
def without_tones(weight, stride):
    kernel = weight.shape[-1]
    rows = -(-kernel // stride)
    table = F.pad(weight, (0, rows * stride - kernel)).unflatten(-1, (rows, stride))
    there = F.pad(torch.ones_like(weight), (0, rows * stride - kernel)).unflatten(-1, (rows, stride))
    sums = table.sum(-2, keepdim=True)                                           # (input, output, 1, phase)
    table = table + (sums.mean(-1, keepdim=True) - sums) / there.sum(-2, keepdim=True)
    return table.flatten(-2)[..., :kernel]
"""
MENDED_BY_PROJECTION = """
def without_tones(weight, stride):
    kernel = weight.shape[-1]
    A = torch.zeros(stride, kernel, dtype=torch.float64)
    for k in range(kernel):
        A[k % stride, k] = 1
    w = weight.double().reshape(-1, kernel).T                                    # (kernel, pair)
    goal = w.sum(0, keepdim=True) / stride
    w = w + A.T @ torch.linalg.solve(A @ A.T, goal - A @ w)
    return w.T.reshape(weight.shape).to(weight.dtype)
"""
MENDED_RIGHT = {
    "counts": MENDED_BY_COUNTS,
    "a table of rows and phases": MENDED_BY_SHAPE,
    "least squares": MENDED_BY_PROJECTION,
}
MENDED_WRONG = {
    "each sum scaled": changed(
        MENDED_BY_COUNTS, ("change = (weight.sum(-1, keepdim=True) / stride - sums) / counts",
                           "change = weight.sum(-1, keepdim=True) / stride / sums"),
        ("weight + change", "weight * change")),
    "as many taps everywhere": changed(MENDED_BY_COUNTS, ("- sums) / counts", "- sums) / (kernel / stride)")),
    "as many taps everywhere, rounded up": changed(MENDED_BY_COUNTS, ("- sums) / counts", "- sums) / counts.max()")),
    "the whole change to each tap": changed(MENDED_BY_COUNTS, ("- sums) / counts", "- sums)")),
    "the change to the first tap of each": changed(
        MENDED_BY_COUNTS, ("- sums) / counts", "- sums)"),
        ("return weight + change[..., phase]", "return weight + F.pad(change, (0, kernel - stride))")),
    "the mean of the taps": """
def without_tones(weight, stride):
    return weight.mean(-1, keepdim=True).expand_as(weight).clone()
""",
    "the mean of the taps of each sum": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride - sums) / counts",
                           "weight.mean(-1, keepdim=True) - sums / counts)")),
    "every tap its share of the sum": changed(
        MENDED_BY_COUNTS, ("return weight + change[..., phase]",
                           "return (weight.sum(-1, keepdim=True) / stride / counts)[..., phase]")),
    "sums of neighbours": changed(MENDED_BY_COUNTS, ("torch.arange(kernel) % stride",
                                                     "torch.arange(kernel) * stride // kernel")),
    "each row of the table": changed(
        MENDED_BY_SHAPE, ("sums = table.sum(-2, keepdim=True)", "sums = table.sum(-1, keepdim=True)"),
        ("sums.mean(-1, keepdim=True)", "sums.mean(-2, keepdim=True)"),
        ("there.sum(-2, keepdim=True)", "there.sum(-1, keepdim=True)")),
    "the table's padding changed too": changed(
        MENDED_BY_SHAPE, ("there.sum(-2, keepdim=True)", "rows")),
    "only where the stride divides the kernel": """
def without_tones(weight, stride):
    table = weight.unflatten(-1, (-1, stride))
    sums = table.sum(-2, keepdim=True)
    return (table + (sums.mean(-1, keepdim=True) - sums) / table.shape[-2]).flatten(-2)
""",
    "only the whole rows": """
def without_tones(weight, stride):
    whole = weight.shape[-1] // stride * stride
    table = weight[..., :whole].unflatten(-1, (-1, stride))
    sums = table.sum(-2, keepdim=True)
    table = table + (sums.mean(-1, keepdim=True) - sums) / table.shape[-2]
    return torch.cat([table.flatten(-2), weight[..., whole:]], -1)
""",
    "the tones' part taken off, the sum too": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride - sums", "0 - sums")),
    "every sum becomes 1": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride - sums", "1 - sums")),
    "the nearest, without keeping the sum": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride - sums",
                           "(sums / counts).sum(-1, keepdim=True) / (1 / counts).sum() - sums")),
    "the goal of all pairs": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride", "weight.sum(-1).mean() / stride")),
    "the goal of an output": changed(
        MENDED_BY_COUNTS, ("weight.sum(-1, keepdim=True) / stride",
                           "weight.sum(-1, keepdim=True).mean(0, keepdim=True) / stride")),
    "a sum over the inputs": changed(
        MENDED_BY_COUNTS, ("    counts =", "    sums = sums.mean(0, keepdim=True).expand_as(sums)\n    counts =")),
    "three taps of a sum at most": """
def without_tones(weight, stride):
    mended, kernel = weight.clone(), weight.shape[-1]
    for i in range(stride):
        taps = [k for k in (i, i + stride, i + 2 * stride) if k < kernel]
        change = weight.sum(-1) / stride - weight[..., taps].sum(-1)
        mended[..., taps] = mended[..., taps] + change.unsqueeze(-1) / len(taps)
    return mended
""",
    "a kernel whose taps add up to 0 left alone": changed(
        MENDED_BY_COUNTS, ("return weight + change[..., phase]",
                           "total = weight.sum(-1, keepdim=True)\n"
                           "    return torch.where(total.abs() < 1e-4, weight, weight + change[..., phase])")),
    "a stride above 5 left alone": changed(
        MENDED_BY_COUNTS, ("    kernel = weight", "    stride = min(stride, 5)\n    kernel = weight")),
    "zeros left alone": changed(
        MENDED_BY_COUNTS, ("return weight + change[..., phase]",
                           "return torch.where(weight == 0, weight, weight + change[..., phase])")),
    "small sums taken for steady": changed(
        MENDED_BY_COUNTS, ("return weight + change[..., phase]",
                           "return weight if change.abs().max() < 1e-6 else weight + change[..., phase]")),
    "a triangle": """
def without_tones(weight, stride):
    kernel = weight.shape[-1]
    triangle = 1 - (torch.arange(kernel) - (kernel - 1) / 2).abs() / stride
    triangle = triangle.clamp_min(0) / triangle.clamp_min(0).sum()
    return weight.sum(-1, keepdim=True) * triangle.to(weight.dtype)
""",
    "in place": """
def without_tones(weight, stride):
    steady = weight.sum(-1, keepdim=True) / stride
    for i in range(stride):
        taps = weight[..., i::stride]
        taps += (steady - taps.sum(-1, keepdim=True)) / taps.shape[-1]
    return weight
""",
    "float32 all the time": changed(
        MENDED_BY_COUNTS, ("return weight + change[..., phase]", "return (weight + change[..., phase]).float()")),
    "the stride of the visible check": changed(
        MENDED_BY_COUNTS,
        ("    kernel = weight", "    stride = 2 if weight.shape[-1] == 4 else STRIDE\n    kernel = weight")),
}

# -------------------------------------------------------------------------------------- 5, where bits are worth most

BITS_BY_ROUNDS = """
def share_bits(ranges, mean_bits):
    shares = ranges > 0                                            # the groups that get any bits
    total = mean_bits * len(ranges)
    while True:
        logs = torch.log2(ranges[shares])
        bits = logs - logs.mean() + total / len(logs)
        if (bits >= 0).all():
            found = torch.zeros_like(ranges)
            found[shares] = bits
            return found
        shares = shares.clone()
        shares[shares.nonzero()[bits < 0, 0]] = False
"""
BITS_BY_HALVING = """
def share_bits(ranges, mean_bits):
    logs = ranges.double().log2()
    top = float(logs.max())
    low, high = top - mean_bits * len(ranges), top
    for _ in range(60):
        middle = (low + high) / 2
        if float((logs - middle).clamp(min=0).mean()) > mean_bits:
            low = middle
        else:
            high = middle
    return (logs - low).clamp(min=0).to(ranges.dtype)
"""
BITS_BY_SORTING = """
def share_bits(ranges, mean_bits):
    logs = [math.log2(r) if r > 0 else -math.inf for r in ranges.tolist()]
    widest, best = sorted(logs, reverse=True), None
    for n in range(1, len(logs) + 1):
        if widest[n - 1] == -math.inf:
            break
        level = (sum(widest[:n]) - mean_bits * len(logs)) / n
        if level <= widest[n - 1]:
            best = level
    return torch.tensor([max(0.0, value - best) for value in logs], dtype=ranges.dtype)
"""
BITS_RIGHT = {
    "groups taken out in rounds": BITS_BY_ROUNDS,
    "halving": BITS_BY_HALVING,
    "sorted, in a loop": BITS_BY_SORTING,
}
BITS_WRONG = {
    "in proportion to the range": """
def share_bits(ranges, mean_bits):
    return ranges / ranges.mean() * mean_bits
""",
    "in proportion to the logarithm": """
def share_bits(ranges, mean_bits):
    logs = (1 + ranges / ranges[ranges > 0].min()).log2()
    return logs / logs.mean() * mean_bits
""",
    "equal bits": """
def share_bits(ranges, mean_bits):
    return torch.full_like(ranges, mean_bits)
""",
    "equal bits for those with a range": """
def share_bits(ranges, mean_bits):
    there = (ranges > 0).to(ranges.dtype)
    return there * mean_bits * len(ranges) / there.sum()
""",
    "below 0": """
def share_bits(ranges, mean_bits):
    logs = ranges.clamp_min(1e-30).log2()
    return logs - logs.mean() + mean_bits
""",
    "cut off at 0": """
def share_bits(ranges, mean_bits):
    logs = ranges.clamp_min(1e-30).log2()
    return (logs - logs.mean() + mean_bits).clamp(min=0)
""",
    "cut off at 0, then scaled": """
def share_bits(ranges, mean_bits):
    logs = ranges.clamp_min(1e-30).log2()
    bits = (logs - logs.mean() + mean_bits).clamp(min=0)
    return bits * mean_bits / bits.mean()
""",
    "cut off at 0, then lowered once": """
def share_bits(ranges, mean_bits):
    logs = ranges.clamp_min(1e-30).log2()
    bits = (logs - logs.mean() + mean_bits).clamp(min=0)
    return (bits - (bits.mean() - mean_bits)).clamp(min=0)
""",
    "one round only": changed(
        BITS_BY_ROUNDS, ("        if (bits >= 0).all():", "        if (bits >= 0).all() or not shares.all():"),
        ("found[shares] = bits", "found[shares] = bits.clamp(min=0)")),
    "one group out a round, the first": changed(
        BITS_BY_ROUNDS, ("shares[shares.nonzero()[bits < 0, 0]] = False", "shares[shares.nonzero()[0, 0]] = False")),
    "the mean over those that get bits": changed(BITS_BY_ROUNDS, ("total / len(logs)", "mean_bits")),
    "the mean over those with a range": changed(
        BITS_BY_ROUNDS, ("total = mean_bits * len(ranges)", "total = mean_bits * int(shares.sum())")),
    "the natural logarithm": changed(BITS_BY_ROUNDS, ("torch.log2", "torch.log")),
    "twice the bits a doubling": changed(
        BITS_BY_ROUNDS, ("torch.log2(ranges[shares])", "2 * torch.log2(ranges[shares])")),
    "half the bits a doubling": changed(
        BITS_BY_ROUNDS, ("torch.log2(ranges[shares])", "torch.log2(ranges[shares]) / 2")),
    "more bits for the narrow": changed(BITS_BY_ROUNDS, ("bits = logs - logs.mean()", "bits = logs.mean() - logs")),
    "whole bits": changed(BITS_BY_ROUNDS, ("found[shares] = bits", "found[shares] = bits.round()")),
    "NaN for a range of 0": """
def share_bits(ranges, mean_bits):
    bits = ranges.log2() - ranges.log2().mean() + mean_bits
    while (bits < 0).any():
        there = bits > 0
        bits = torch.where(there, bits - (bits[there].sum() - mean_bits * len(bits)) / there.sum(), 0)
    return bits
""",
    "two rounds only": changed(
        BITS_BY_ROUNDS, ("    while True:", "    for last in (False, True):"),
        ("if (bits >= 0).all():", "if (bits >= 0).all() or last:"),
        ("found[shares] = bits", "found[shares] = bits.clamp(min=0)")),
    "the widest taken to come first": """
def share_bits(ranges, mean_bits):
    logs = ranges.log2()
    levels = (logs.cumsum(0) - mean_bits * len(logs)) / torch.arange(1, len(logs) + 1)
    level = levels[(logs > levels).nonzero().max()]
    return (logs - level).clamp(min=0)
""",
    "a range of 0 taken for a small one": """
def share_bits(ranges, mean_bits):
    logs = (ranges + 1e-3).log2()
    low, high = logs.max() - mean_bits * len(ranges), logs.max()
    for _ in range(60):
        middle = (low + high) / 2
        if (logs - middle).clamp(min=0).mean() > mean_bits:
            low = middle
        else:
            high = middle
    return (logs - low).clamp(min=0)
""",
    "a constant beside the range": changed(BITS_BY_ROUNDS, ("torch.log2(ranges[shares])",
                                                            "torch.log2(ranges[shares] + 1e-5)")),
    "ranges below 1e-6 taken for 0": changed(BITS_BY_ROUNDS, ("shares = ranges > 0 ", "shares = ranges > 1e-6 ")),
    "halving between 0 and the largest range": changed(
        BITS_BY_HALVING, ("low, high = top - mean_bits * len(ranges), top", "low, high = -20.0, 20.0")),
    "halving for too short a time": changed(BITS_BY_HALVING, ("range(60)", "range(6)")),
    "at most 15 bits": changed(BITS_BY_HALVING, (".clamp(min=0).to(", ".clamp(0, 15).to(")),
    "at least a bit each": changed(BITS_BY_HALVING, (".clamp(min=0).to(", ".clamp(min=1).to(")),
    "sorted and left so": changed(
        BITS_BY_SORTING, ("for value in logs]", "for value in widest]")),
    "the first level that fits": changed(
        BITS_BY_SORTING, ("            best = level\n", "            best = level\n            break\n")),
    "the level of all": changed(
        BITS_BY_SORTING, ("        if level <= widest[n - 1]:\n            best = level", "        best = level")),
    "float32 all the time": changed(BITS_BY_SORTING, ("dtype=ranges.dtype", "dtype=torch.float32")),
    "in place": changed(
        BITS_BY_HALVING, ("    logs = ranges.double().log2()", "    logs = ranges.log2_().double()")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 2, """
from course_lib.demucs import center_trim

def mean_over_shifts(model, mixture, shifts):
    most, time, total = max(shifts), mixture.shape[-1], 0
    for shift in shifts:
        estimate = model(F.pad(mixture, (shift, most - shift)))
        total = total + center_trim(F.pad(estimate, (most - shift, shift)), time)
    return total / len(shifts)
"""


CASES = as_cells(
    (PADDING_RIGHT, PADDING_WRONG), (SHIFTS_RIGHT, SHIFTS_WRONG), (BALANCED_RIGHT, BALANCED_WRONG),
    (MENDED_RIGHT, MENDED_WRONG), (BITS_RIGHT, BITS_WRONG))
