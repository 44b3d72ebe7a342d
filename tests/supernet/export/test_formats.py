import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from search_spaces import NasError
from search_spaces.registry import Registry
from supernet.export import EXPORTERS, Exporter, export_subnet, formats, get_exporter


class TextExporter(Exporter):
    """`subnet.txt`."""

    loading = 'print(open("subnet.txt").read(), {supernet!r}, {answer})'
    note = "One line of text."

    def write(self, model, subnet, folder, about, dtype):
        (folder / "subnet.txt").write_text(subnet.id)

    def check(self, model, subnet, folder, dtype):
        assert (folder / "subnet.txt").read_text() == subnet.id

    def loading_fields(self, model, subnet):
        return {"answer": 42}


@pytest.fixture
def table(monkeypatch):
    """The table with two entries of another package."""
    module = ModuleType("other_package")
    module.TextExporter, module.nothing = TextExporter, object()
    monkeypatch.setitem(sys.modules, "other_package", module)
    points = [
        EntryPoint("text", "other_package:TextExporter", "lighthubert_nas.exporters"),
        EntryPoint("broken", "other_package:nothing", "lighthubert_nas.exporters"),
    ]
    monkeypatch.setattr(
        "search_spaces.registry.entry_points", lambda group: points if group == "lighthubert_nas.exporters" else []
    )
    monkeypatch.setattr(formats, "EXPORTERS", Registry(EXPORTERS.kind, EXPORTERS.group, dict(EXPORTERS)))


@pytest.mark.parametrize("name", list(EXPORTERS))
def test_every_format_has_a_docstring_dtypes_and_a_way_of_loading(name):
    exporter = get_exporter(name)
    assert (type(exporter).__doc__ or "").startswith("`")
    assert exporter.dtypes
    assert exporter.loading


def test_another_package_adds_a_format_with_its_own_card(table, supernet, small_space, tmp_path):
    assert isinstance(get_exporter("text"), TextExporter)
    files = export_subnet(supernet, small_space.middle, tmp_path / "out", ["json", "text"], {"name": "mine"})
    assert [file.name for file in files] == ["README.md", "lighthubert.json", "subnet.json", "subnet.txt"]
    card = (tmp_path / "out" / "README.md").read_text()
    code = """print(open("subnet.txt").read(), 'mine', 42)"""
    assert f"### text\n\nOne line of text.\n\n```python\n{code}\n```\n" in card


def test_entries_that_are_no_exporters_are_refused(table):
    with pytest.raises(NasError, match=r"export format 'broken' must be a subclass of supernet\.export\.Exporter"):
        get_exporter("broken")


def test_unknown_formats_are_refused_with_the_known_ones():
    with pytest.raises(NasError, match="unknown export format 'gguf'; known: json, safetensors, onnx"):
        get_exporter("gguf")
