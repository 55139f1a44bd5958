"""How much of a template a device reads from yes/no answers alone, by the number of its questions.

    python -m benchmarks.budget_attack [--templates 20] [--people 40] [--seed 1] [--json PATH]

The device knows the protocol and nothing of the template. It asks `score(probe, template) >= t` of integers made by
the quantiser, and every probe is one that the validity gate lets through: coordinates in [-c, c] and squared norm in
[norm_min, norm_max]. The figures in docs/budgets.md are from here, and the defaults there rest on them.

First table: random templates, of which nothing is known before. Printed is the cosine between the device's best guess
and the template; the usual threshold is 0.40, so a guess above that passes as the person.
- any threshold: each question at the most informative threshold, given a normal belief about the template that follows
  every answer. About the best there is: one answer is hardly ever worth less than a bit.
- any, bisection: exact scores of 128 orthogonal probes (rows of a Hadamard matrix), each by bisecting the threshold.
The others ask at 0.40 and never below, which is what a certificate can bound them to:
- bound: as the first, asking for what most probably matches until something does.
- bound, match: the same, given a stranger's probe that matches (cosine 0.42) to begin with.
- gradient (from that match as well): goes to the boundary and adds up the signs around it (the gradient of
  HopSkipJump; a boundary of scores is flat, so there is no need to move along it).
- climbing (likewise): random steps, kept while a probe matches that is as short as the gate lets through.

Second table, with --people: faces of the AT&T/ORL photos. The device has all photos of the other 39 people, from the
same camera. Printed is the share of templates for which it has found a probe that passes: at 0.40, or at its bound.
Under a bound it either tries the photos of strangers one after the other, which is what a false match rate counts, or
makes up the face that most probably matches (guesses).
"""
