"""What the documents list is what the code has."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def keys():
    """The names in config.c's table of keys, and the flags beside it."""
    text = (ROOT / "server/config.c").read_text()
    table = text[text.index("config_keys[] = {"):text.index("#define KEY_COUNT")]
    actions = text[text.index("config_flags[] = {"):text.index("#define FLAG_COUNT")]
    found = re.findall(r'\{ "([a-z-]+)",', table + actions)
    assert len(found) > 15
    return found


def test_the_manual_lists_every_flag():
    manual = (ROOT / "docs/updraftd.8").read_text()
    listed = re.findall(r"^\.It Fl -([a-z-]+)", manual, re.M)
    assert sorted(listed) == sorted(keys()), "docs/updraftd.8 and server/config.c must list the same flags"


def test_the_house_plan_names_every_room():
    plan = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path for folder in ("base", "proto", "repo", "fleet", "mqtt", "server", "cli") for path in (ROOT / folder).glob("*.c")]
    missing = [str(path.relative_to(ROOT)) for path in rooms if f"`{path.stem}`" not in plan]
    assert rooms and not missing, f"ARCHITECTURE.md, \"Rooms\", says in a few words what each is for: {missing}"


def test_every_test_folder_is_run():
    """A folder of tests that script/test does not name would never fail."""
    script = (ROOT / "script/test").read_text()
    for folder in (ROOT / "tests").iterdir():
        if any(folder.glob("test_*.py")):
            assert f"tests/{folder.name}" in script, f"script/test does not run tests/{folder.name}"


def test_links_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, broken
