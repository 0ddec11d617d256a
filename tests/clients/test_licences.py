"""The licence check reads SPDX expressions as they are meant."""

import importlib.machinery
import importlib.util

import pytest
from harness import ROOT

loader = importlib.machinery.SourceFileLoader("licences", str(ROOT / "scripts/licences"))
licences = importlib.util.module_from_spec(importlib.util.spec_from_loader("licences", loader))
loader.exec_module(licences)


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR LGPL-2.1-or-later",
        "GPL-3.0-only OR (MIT AND ISC)",
        "(MIT OR GPL-2.0-only) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ],
)
def test_what_allowed_licences_satisfy_passes(expression):
    assert licences.acceptable(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MIT AND (AGPL-3.0-only OR LGPL-3.0-only)",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        # AND binds tighter: this is GPL, or MIT together with LGPL.
        "GPL-3.0-only OR MIT AND LGPL-3.0-only",
    ],
)
def test_what_they_do_not_satisfy_fails(expression):
    assert not licences.acceptable(expression)


@pytest.mark.parametrize("expression", ["", "MIT OR", "(MIT", "MIT ISC", "OR MIT"])
def test_an_expression_that_cannot_be_read_is_an_error(expression):
    with pytest.raises(ValueError):
        licences.acceptable(expression)


def test_a_package_from_elsewhere_or_without_checksum_is_told():
    package = {"name": "x", "version": "1.0.0", "license": "MIT", "source": licences.REGISTRY}
    assert licences.problems(package, {("x", "1.0.0")}) == []
    assert len(licences.problems(package, set())) == 1
    assert len(licences.problems({**package, "source": "git+https://example.org/x"}, {("x", "1.0.0")})) == 1
    assert len(licences.problems({**package, "license": None}, {("x", "1.0.0")})) == 1
