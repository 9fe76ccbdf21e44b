"""Recomputes every number of a test and of a cross-validation from predictions and outcomes, by independent plain code.

Nothing here comes from dmml. A metric is a function of weights (n,), a pair metric the ratio of two matrices that loops
over patients fill; the bootstrap draws from the same seed, so that its ends can be compared digit by digit.
"""

import math

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2, norm
from scipy.stats import t as student
from sklearn import metrics as sk

RESAMPLES, SEED = 2000, 0


# ---- the bootstrap ---------------------------------------------------------------------------------------------------


def draws(strata):
    """(R, n) weights: of the m patients of a stratum m − 1 are drawn, each weighing m / (m − 1)."""
    strata = np.asarray(strata)
    generator = np.random.default_rng(SEED)
    weights = np.zeros((RESAMPLES, len(strata)))
    for stratum in sorted(set(strata.tolist())):
        members = np.flatnonzero(strata == stratum)
        m = len(members)
        times = max(1, m - 1)
        weights[:, members] = generator.multinomial(times, [1 / m] * m, RESAMPLES) * (m / times)
    return weights


def bootstrap(metric, weights):
    """(value, low, high, p of 0): bias-corrected and accelerated."""
    n = weights.shape[1]
    value = metric(np.ones(n))
    if not math.isfinite(value):
        return (math.nan,) * 4
    drawn = np.array([metric(row) for row in weights])
    without = np.array([metric(np.where(np.arange(n) == i, 0.0, 1.0)) for i in range(n)])
    drawn, without = drawn[np.isfinite(drawn)], without[np.isfinite(without)]
    bias = acceleration = 0.0
    if np.ptp(drawn) > 0:
        tied = np.abs(drawn - value) < 1e-6
        share = (np.sum((drawn < value) & ~tied) + np.sum(tied) / 2 + 0.5) / (len(drawn) + 1)
        bias = min(1.5, max(-1.5, norm.ppf(share)))
        gap = without.mean() - without
        acceleration = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5) if gap.any() else 0.0
    ends = []
    for z in (norm.ppf(0.025), norm.ppf(0.975)):
        ends.append(np.quantile(drawn, norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))))
    return value, min(ends[0], value), max(ends[1], value), _p_of_zero(drawn, bias, acceleration)


def _p_of_zero(drawn, bias, acceleration):
    """Twice the level at which an end of the interval is 0."""
    levels = []
    for sign in (1, -1):
        share = (np.sum(sign * drawn < 1e-6) + 1) / (len(drawn) + 1)
        if share >= 1 and np.ptp(drawn) == 0:
            return 1.0
        q = norm.ppf(min(share, len(drawn) / (len(drawn) + 1))) - sign * bias
        levels.append(norm.cdf(q / (1 + sign * acceleration * q) - sign * bias))
    return min(1.0, 2 * min(levels))


def holm(values):
    """Adjusted p values, in the order given."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        largest = max(largest, (len(values) - rank) * values[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


def resampled_t(differences, test_share):
    """Two-sided p of Nadeau and Bengio's corrected test."""
    d = np.asarray(differences)
    statistic = d.mean() / math.sqrt((1 / len(d) + test_share) * d.var(ddof=1))
    return 2 * student.sf(abs(statistic), len(d) - 1)


# ---- survival --------------------------------------------------------------------------------------------------------


class Ratio:
    """Σ w_i w_j top_ij / Σ w_i w_j bottom_ij; `sums` of several folds add up."""

    def __init__(self, top, bottom):
        self.top, self.bottom = top, bottom

    def sums(self, weights):
        return weights @ self.top @ weights, weights @ self.bottom @ weights

    def __call__(self, weights):
        top, bottom = self.sums(weights)
        return top / bottom if bottom > 0 else math.nan


class Mean(Ratio):
    """Weighted mean of a number that each patient has."""

    def __init__(self, parts):
        self.parts = parts

    def sums(self, weights):
        return weights @ self.parts, weights.sum()


class Step:
    """A step function given by the days of its steps and its values from then on; 1 before."""

    def __init__(self, days, values):
        self.steps = sorted(zip(days, values, strict=True))

    def at(self, day):
        return next((value for step, value in reversed(self.steps) if step <= day), 1.0)

    def before(self, day):
        return next((value for step, value in reversed(self.steps) if step < day), 1.0)

    def first_at_or_below(self, share):
        return next((step for step, value in self.steps if value <= share), math.inf)


def censoring_of(time, event):
    """Kaplan–Meier curve of being censored; who dies on a day is not at risk of being censored on it."""
    days, values, left = sorted(set(time)), [], 1.0
    for day in days:
        at_risk = sum(t > day or (t == day and not e) for t, e in zip(time, event, strict=True))
        lost = sum(t == day and not e for t, e in zip(time, event, strict=True))
        left *= 1 - lost / at_risk if at_risk else 1.0
        values.append(left)
    return days, values


def pairs(rows, weight_of, comparable, higher=lambda one, other: (one["risk"], other["risk"])):
    """Matrices of a pair metric: credit and weight of i against j; rows are dictionaries.

    `higher` gives the two numbers of which the first must be the higher one.
    """
    n = len(rows)
    top, bottom = np.zeros((n, n)), np.zeros((n, n))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if one.get("fold") == other.get("fold") and comparable(one, other):
                weight = weight_of(one)
                bottom[i, j] = weight
                first, second = higher(one, other)
                top[i, j] = weight * (1.0 if first > second else 0.5 * (first == second))
    return top, bottom


def outlives(one, other):
    return one["time"] < other["time"] or (one["time"] == other["time"] and not other["event"])


def survival_on(row, day):
    """Log-linear between the days of the columns, 1 on day 0."""
    columns = sorted((float(k.split("_")[1]), v) for k, v in row.items() if k.startswith("survival_") and v == v)
    before, left = 0.0, 1.0
    for after, right in columns:
        if day <= after:
            share = (day - before) / (after - before)
            return math.exp((1 - share) * math.log(max(left, 1e-300)) + share * math.log(max(right, 1e-300)))
        before, left = after, right
    return math.nan


def last_day(rows):
    return max(
        float(key.split("_")[1]) for key, value in rows[0].items() if key.startswith("survival_") and value == value
    )


def brier_part(row, censoring, tau):
    """A patient's share of the integrated Brier score up to tau."""
    times = np.linspace(0, tau, 101) * (1 - 1e-9)
    losses = []
    for day in times:
        s = survival_on(row, day) if day > 0 else 1.0
        if row["time"] > day:
            losses.append((1 - s) ** 2 / censoring.at(day))
        else:
            losses.append(s**2 / censoring.before(row["time"]) if row["event"] else 0.0)
    return sum((losses[k] + losses[k + 1]) / 2 * (times[k + 1] - times[k]) for k in range(100)) / (times[-1] - times[0])


def last_evaluated_day(rows, context):
    """The last day of the inverse-probability weighted metrics."""
    censoring = Step(context["censoring"]["time"], context["censoring"]["survival"])
    end = context.get("end") or math.inf
    return min(end, max(row["time"] for row in rows), censoring.first_at_or_below(0.1))


def survival_metrics(folds, contexts):
    """{metric: function of weights} over the patients of all folds in turn; one fold is a test."""
    rows = [row for fold in folds for row in fold]
    curves = {
        id(row): Step(c["censoring"]["time"], c["censoring"]["survival"])
        for f, c in zip(folds, contexts, strict=True)
        for row in f
    }
    taus = {
        id(row): last_evaluated_day(fold, context)
        for fold, context in zip(folds, contexts, strict=True)
        for row in fold
    }

    def g(row):
        return 1 / curves[id(row)].before(row["time"])

    metrics = {
        "c_index": Ratio(*pairs(rows, lambda row: 1.0, lambda i, j: i["event"] and outlives(i, j))),
        "c_index_antolini": Ratio(
            *pairs(
                rows,
                lambda row: 1.0,
                lambda i, j: i["event"] and i["time"] <= last_day([i]) and outlives(i, j),
                lambda i, j: tuple(-survival_on(row, i["time"]) for row in (i, j)),
            )
        ),
        "c_index_ipcw": Ratio(
            *pairs(
                rows, lambda row: g(row) ** 2, lambda i, j: i["event"] and i["time"] < taus[id(i)] and outlives(i, j)
            )
        ),
        "ibs": Mean(np.array([brier_part(r, curves[id(r)], min(taus[id(r)], last_day(f))) for f in folds for r in f])),
    }
    for day in contexts[0]["horizons"]:
        metrics[f"auc_{day:g}"] = Ratio(*pairs(rows, g, lambda i, j, d=day: i["event"] and i["time"] <= d < j["time"]))
    return metrics


def log_rank(time, event, high, strata=None):
    """p of the log-rank test of two groups."""
    strata = np.zeros(len(time)) if strata is None else strata
    observed = expected = variance = 0.0
    for stratum, day in sorted(set(zip(strata[event == 1], time[event == 1], strict=True))):
        at_risk = (strata == stratum) & (time >= day)
        dead = at_risk & (time == day) & (event == 1)
        n, n_high, d = at_risk.sum(), (at_risk & high).sum(), dead.sum()
        observed += (dead & high).sum()
        expected += d * n_high / n
        if n > 1:
            variance += d * (n_high / n) * (1 - n_high / n) * (n - d) / (n - 1)
    return chi2.sf((observed - expected) ** 2 / variance, 1)


def hazard_ratio(time, event, high, strata=None):
    """(ratio, low, high, p) of Cox regression on one binary covariate: bisection of the score, ties after Efron."""
    strata = [0] * len(time) if strata is None else strata
    patients = list(zip(time, event, high, strata, strict=True))
    risk_sets = []  # at every death day of a stratum: at risk and dying, at low and at high risk
    for stratum, day in sorted({(s, t) for t, e, _, s in patients if e}):
        at_risk, dying = [0, 0], [0, 0]
        for t, e, h, s in patients:
            if s == stratum and t >= day:
                at_risk[int(h)] += 1
                dying[int(h)] += bool(e and t == day)
        risk_sets.append((at_risk, dying))

    def score_and_information(beta):
        score = information = 0.0
        for at_risk, dying in risk_sets:
            d = sum(dying)
            score += dying[1]
            for k in range(d):
                low, high = (n - k / d * m for n, m in zip(at_risk, dying, strict=True))
                share = high * math.exp(beta) / (low + high * math.exp(beta))
                score -= share
                information += share * (1 - share)
        return score, information

    left, right = -30.0, 30.0
    for _ in range(200):
        middle = (left + right) / 2
        left, right = (middle, right) if score_and_information(middle)[0] > 0 else (left, middle)
    error = 1 / math.sqrt(score_and_information(left)[1])
    ends = (math.exp(left + z * error) for z in (norm.ppf(0.025), norm.ppf(0.975)))
    return math.exp(left), *ends, 2 * norm.sf(abs(left) / error)


def kaplan_meier_on(rows, day):
    """Survival on a day."""
    left = 1.0
    for death in sorted({row["time"] for row in rows if row["event"] and row["time"] <= day}):
        at_risk = sum(row["time"] >= death for row in rows)
        left *= 1 - sum(row["event"] and row["time"] == death for row in rows) / at_risk
    return left


def cox(columns, time, event, strata=None, efron=True):
    """(coefficients, their standard errors, log-likelihood) of Cox regression; ties of Efron or of Breslow; columns (n, p)."""
    columns = np.asarray(columns, float)
    strata = np.zeros(len(time)) if strata is None else np.asarray(strata)

    def loss(beta):
        score, total = columns @ beta, 0.0
        for stratum in np.unique(strata):
            in_stratum = strata == stratum
            for day in np.unique(time[in_stratum & (event > 0)]):
                dead = in_stratum & (time == day) & (event > 0)
                d, at_risk, dying = (
                    dead.sum(),
                    np.exp(score[in_stratum & (time >= day)]).sum(),
                    np.exp(score[dead]).sum(),
                )
                total += score[dead].sum() - sum(math.log(at_risk - efron * k / d * dying) for k in range(d))
        return -total

    beta = minimize(loss, np.zeros(columns.shape[1]), method="BFGS", options={"gtol": 1e-7}).x
    step, p = 1e-4, len(beta)
    hessian = np.zeros((p, p))
    unit = np.eye(p) * step
    for a in range(p):
        for b in range(p):
            corners = [loss(beta + s * unit[a] + t * unit[b]) * s * t for s in (1, -1) for t in (1, -1)]
            hessian[a, b] = sum(corners) / (4 * step**2)
    return beta, np.sqrt(np.diag(np.linalg.inv(hessian))), -loss(beta)


# ---- classes ---------------------------------------------------------------------------------------------------------


def class_metrics(label, probability, fold=None):
    """{metric: function of weights}; AUC counts pairs of one fold."""
    label, probability = np.asarray(label), np.asarray(probability)
    n, classes = probability.shape
    fold = np.zeros(n) if fold is None else np.asarray(fold)
    predicted, confidence = probability.argmax(1), probability.max(1)
    cost = np.array([[(i - j) ** 2 for j in range(classes)] for i in range(classes)])

    def table(weights):
        counts = np.zeros((classes, classes))
        np.add.at(counts, (label, predicted), weights)
        return counts

    def balanced(weights):
        counts = table(weights)
        return np.mean([counts[c, c] / counts[c].sum() for c in range(classes) if counts[c].sum() > 0])

    def specificity(weights):
        values = []
        for c in range(classes):
            others = [i for i in range(n) if label[i] != c]
            whole = sum(weights[i] for i in others)
            if sum(weights[i] for i in range(n) if label[i] == c) > 0 and whole > 0:
                values.append(sum(weights[i] for i in others if predicted[i] != c) / whole)
        return np.mean(values)

    def f1(weights):
        counts = table(weights)
        both = counts.sum(0) + counts.sum(1)
        return np.mean([2 * counts[c, c] / both[c] for c in range(classes) if both[c] > 0])

    def kappa(weights):
        counts = table(weights) / weights.sum()
        return 1 - (cost * counts).sum() / (cost * np.outer(counts.sum(1), counts.sum(0))).sum()

    def auc_of(c):
        top, bottom = np.zeros((n, n)), np.zeros((n, n))
        for i in np.flatnonzero(label == c):
            for j in np.flatnonzero((label != c) & (fold == fold[i])):
                p, q = probability[i, c], probability[j, c]
                top[i, j], bottom[i, j] = (1.0 if p > q else 0.5 * (p == q)), 1.0
        return Ratio(top, bottom)

    aucs = [auc_of(c) for c in ([1] if classes == 2 else range(classes)) if 0 < (label == c).sum() < n]
    metrics = {
        "auc": lambda w: np.mean([auc(w) for auc in aucs]),
        "accuracy": lambda w: np.trace(table(w)) / w.sum(),
        "balanced_accuracy": balanced,
        "specificity_macro": specificity,
        "f1_macro": f1,
        "kappa_quadratic": kappa,
        "ece": _calibration_error(label == predicted, confidence),
    }
    _agrees_with_scikit_learn(metrics, label, predicted)
    return metrics


def _calibration_error(hit, confidence):
    """Bins of equal size with about 20 patients each (there are fewer than 300)."""
    bins = min(15, max(1, len(hit) // 20))
    edges = [np.quantile(confidence, k / bins) for k in range(1, bins)]
    bin_of = np.array([sum(edge < value for edge in edges) for value in confidence])
    return lambda w: sum(abs((w * (hit - confidence))[bin_of == k].sum()) for k in range(bins)) / w.sum()


def _agrees_with_scikit_learn(metrics, label, predicted):
    ones = np.ones(len(label))
    expected = {
        "accuracy": sk.accuracy_score(label, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(label, predicted),
        "specificity_macro": _specificity_of_scikit_learn(label, predicted),
        "f1_macro": sk.f1_score(label, predicted, average="macro"),
        "kappa_quadratic": sk.cohen_kappa_score(label, predicted, weights="quadratic"),
    }
    for name, value in expected.items():
        assert math.isclose(metrics[name](ones), value, abs_tol=1e-9), name


def _specificity_of_scikit_learn(label, predicted):
    """Mean over the classes that occur of the recall of all other patients."""
    return np.mean([sk.recall_score(label != c, predicted != c) for c in sorted(set(label.tolist()))])


def shared_logits(parts, label):
    """(log-likelihood, weights) of logits = intercepts + Σ weight · part."""
    classes = parts[0].shape[1]

    def loss(values):
        logits = values[:classes] + sum(w * part for w, part in zip(values[classes:], parts, strict=True))
        top = logits.max(1)
        return -(logits[np.arange(len(label)), label] - top - np.log(np.exp(logits - top[:, None]).sum(1))).sum()

    optimum = minimize(loss, np.zeros(classes + len(parts)), method="BFGS", options={"gtol": 1e-6})
    return -optimum.fun, optimum.x[classes:]
