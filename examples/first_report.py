"""The whole flow in fifteen lines, on generated brain-like slices: data, teacher, base, student, maps, measures, report.

python examples/first_report.py
"""

import pellucid as pl

data = pl.load("phantom", n_subjects=80, slices=6, views=4)
wide = {"size": 64, "batch_size": 16, "epochs": 14}
small = {"size": 64, "batch_size": 16, "epochs": 14, "preset": "small"}
teacher = pl.train(data, "cnn5", **wide)
base = pl.train(data, "cnn5", n_views=4, **small)  # the same small network without a teacher
student = pl.distill(data, teacher, "cnn5", loss="logit_kd", alpha=0.4, temperature=4, student_settings=small)
networks = {"teacher": teacher, "base": base, "student": student}

maps = pl.explain(networks, data.test, methods=["average_feature_map", "grad_cam"], target="teacher")
scores = pl.measure(networks, data.test, val=data.val, explanations=maps, audit=data.audit)
for verdict in scores.verdicts:
    print(verdict.question, verdict.answer, verdict.figure)
print(pl.report(scores, maps, to="first_report/report.html", data=data))
