"""The formulas of `dmml.functional` in decimals, one sample after the other, to be compared with those on tensors."""

from decimal import Decimal


def exact(values):
    """Convert nested lists of floats to decimals, without rounding."""
    return [exact(v) for v in values] if isinstance(values, list) else Decimal(values)


def hazard(x):
    """h and 1 − h, the latter without cancellation."""
    return 1 / (1 + (-x).exp()), 1 / (1 + x.exp())


def slow_nll(logits, interval, event, alpha):
    values = []
    for row, y, happened in zip(logits, interval, event, strict=True):
        alive = [hazard(x)[1].ln() for x in row]
        if happened:
            values.append(-(sum(alive[: int(y)], Decimal(0)) + hazard(row[int(y)])[0].ln()))
        else:
            values.append(-sum(alive[: int(y) + 1], Decimal(0)) * (1 - alpha))
    return values


def slow_curve(logits):
    curves = []
    for row in logits:
        alive, curve = Decimal(1), []
        for x in row:
            alive *= hazard(x)[1]
            curve.append(alive)
        curves.append(curve)
    return curves


def slow_edges(time, event, n):
    times = sorted(t for t, e in zip(time, event, strict=True) if e > 0)
    edges = []
    for i in range(1, int(n)):
        position = Decimal(i) / n * (len(times) - 1)
        low = int(position)
        high = min(low + 1, len(times) - 1)
        edges.append(times[low] + (position - low) * (times[high] - times[low]))
    return edges


def mean_square(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def slow_expression(a, b, measured=None, has_rna=None):
    values = []
    for i in range(len(a)):
        value = mean_square(a[i], b[i])
        if measured is not None and (has_rna is None or has_rna[i]):
            value += (mean_square(a[i], measured[i]) + mean_square(b[i], measured[i])) / 2
        values.append(value)
    return values


def slow_attention(a10, a20, parent, mask):
    values = []
    for p, fine, parents, real in zip(a10, a20, parent, mask, strict=True):
        q = [Decimal(0)] * len(p)
        for weight, row in zip(fine, parents, strict=True):
            if row >= 0:
                q[int(row)] += weight
        p = [x if is_real else Decimal(0) for x, is_real in zip(p, real, strict=True)]
        if sum(p) == 0 or sum(q) == 0:
            values.append(Decimal(0))
            continue
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        value = Decimal(0)
        for x, y in zip(p, q, strict=True):
            middle = (x + y) / 2
            value += sum((z * (z / middle).ln() for z in (x, y) if z > 0), Decimal(0)) / 2
        values.append(value)
    return values


def slow_similarity(a, b):
    if len(a) < 2:
        return Decimal(0)
    diagonal = []
    for i, row in enumerate(a):
        s = [sum(x * y for x, y in zip(row, other, strict=True)) for other in b]
        length = sum(x * x for x in s).sqrt()
        diagonal.append(s[i] / length if length else Decimal(0))
    mean = sum(diagonal) / len(diagonal)
    return 10000 * sum((x - mean) ** 2 for x in diagonal) / (len(diagonal) - 1)


def slow_agreement(a, b):
    if not a:
        return Decimal(0)
    diagonal = [sum(x * y for x, y in zip(row, other, strict=True)) for row, other in zip(a, b, strict=True)]
    mean = sum(diagonal) / len(diagonal)
    return sum((x - mean) ** 2 for x in diagonal) / len(diagonal)


def slow_kl(student, teacher, temperature):
    total = Decimal(0)
    for s, t in zip(student, teacher, strict=True):
        s, t = ([(x / temperature).exp() for x in row] for row in (s, t))
        for x, y in zip(s, t, strict=True):
            total += y / sum(t) * ((y / sum(t)) / (x / sum(s))).ln()
    return temperature**2 * total / len(student) if student else total


def slow_bernoulli(student, teacher, temperature):
    total = Decimal(0)
    for s, t in zip(student, teacher, strict=True):
        for x, y in zip(s, t, strict=True):
            for p_student, p_teacher in zip(hazard(x / temperature), hazard(y / temperature), strict=True):
                total += p_teacher * (p_teacher / p_student).ln()
    return temperature**2 * total / len(student) if student else total


def slow_coordinate(rule):
    def rows(tumor, tme, confidence_tumor, confidence_tme):
        new_tumor, new_tme, conflict = [], [], []
        for a, b in zip(tumor, tme, strict=True):
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            conflict.append(Decimal(dot < 0))
            if dot < 0 and confidence_tumor < confidence_tme:
                a = resolve(a, b, dot)
            elif dot < 0 and confidence_tme < confidence_tumor:
                b = resolve(b, a, dot)
            new_tumor.append(a)
            new_tme.append(b)
        return [new_tumor, new_tme, conflict]

    def resolve(u, v, dot):
        p = [dot / sum(y * y for y in v) * y for y in v]
        once = [x - y for x, y in zip(u, p, strict=True)]
        if rule == "project":
            return once
        twice = [x - 2 * y for x, y in zip(u, p, strict=True)]
        length = [sum(x * x for x in row).sqrt() for row in (once, twice)]
        return [length[0] * x / length[1] for x in twice]

    return rows


def slow_dpc(tokens, mask, n_clusters, k):
    both = [[], []]
    for x, is_real in zip(tokens, mask, strict=True):
        real = [i for i in range(len(x)) if is_real[i]]
        d2 = {(i, j): mean_square(x[i], x[j]) for i in real for j in real}  # ‖·‖² / d
        rho = {}
        for i in real:
            nearest = sorted(d2[i, j] for j in real)[: int(k)]
            rho[i] = (-sum(nearest) / len(nearest)).exp()
        denser = {i: [j for j in real if (-rho[j], j) < (-rho[i], i)] for i in real}
        delta = {i: min((d2[i, j] for j in denser[i]), default=max(d2.values())).sqrt() for i in real}
        centres = sorted(real, key=lambda i: (-rho[i] * delta[i], i))[: int(n_clusters)]
        clusters = [
            min(range(len(centres)), key=lambda c: (d2[i, centres[c]], c)) if i in real else -1 for i in range(len(x))
        ]
        both[0].append(exact(clusters))
        both[1].append(exact(centres + [-1] * (int(n_clusters) - len(centres))))
    return both


def slow_merge(tokens, weight, assignment, n_clusters):
    merged = []
    for x, w, of in zip(tokens, weight, assignment, strict=True):
        rows = []
        for c in range(int(n_clusters)):
            members = [i for i in range(len(x)) if of[i] == c]
            total = sum((w[i] for i in members), Decimal(0))
            sums = [sum((w[i] * x[i][j] for i in members), Decimal(0)) for j in range(3)]
            rows.append([value / total if total else Decimal(0) for value in sums])
        merged.append(rows)
    return merged


def slow_concordance(time, event, risk):
    right, pairs = Decimal(0), 0
    for t, e, r in zip(time, event, risk, strict=True):
        for t2, e2, r2 in zip(time, event, risk, strict=True):
            if e and (t < t2 or (t == t2 and not e2)):
                pairs += 1
                right += 1 if r > r2 else Decimal("0.5") if r == r2 else 0
    return right / pairs if pairs else Decimal("nan")
