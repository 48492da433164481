from fipo.doctor.findings import Finding, counted, gravest_first


def found(level, **about):
    return Finding(level=level, text=f"it is a {level}", **about)


def test_the_gravest_findings_come_first_and_others_keep_their_order():
    levels = {"a": "note", "b": "problem", "c": "warning", "d": "problem"}
    a, b, c, d = (found(level, keys=(key,)) for key, level in levels.items())
    assert gravest_first([a, b, c, d]) == [b, d, c, a]


def test_a_finding_says_where_by_its_keys_or_by_its_steps():
    assert found("note", keys=("a.b", "c.d")).where == "a.b, c.d"
    assert found("note", steps=(3, 7)).where == "steps 3-7"
    assert found("note", steps=(3, 3)).where == "step 3"
    assert found("note").where == ""


def test_findings_are_counted_by_level_the_gravest_first():
    assert counted([found("note"), found("problem"), found("note")]) == "1 problem, 2 notes"
    assert counted([]) == ""
