"""What testssl.sh finds at the TLS door, and which of it was to be expected.

It asks no name server and no other host. The authority of script/dev-cert is named to it, so that the chain of trust is
looked at like any other's."""

import json
import re
import subprocess

PATIENCE_S = 1800
LEAST = 60  # findings of a scan that was one; a full one has about 150
BAD = ("HIGH", "CRITICAL", "FATAL")
WORTH_SAYING = ("WARN", "LOW", "MEDIUM", *BAD)

# By the first word of a finding's id: what would fail the run otherwise, and why it does not.
EXPECTED = {
    "cert_revocation": "of script/dev-cert: nobody would answer at the address of an authority made for trying out, and "
                       "devices ask at none",
}


def scan(stage, folder, certs, quick):
    """The findings: [{"id", "severity", "finding"}]."""
    out, said = folder / "testssl.json", folder / "testssl.txt"
    some = ["--protocols", "--server-defaults", "--renegotiation", "--heartbleed"] if quick else []
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1",
               "--add-ca", certs / "ca.pem", *some, "--jsonfile", out, f"localhost:{stage.tls_port}"]
    try:
        with open(said, "wb") as file:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, timeout=PATIENCE_S)
        return json.loads(out.read_text())
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [{"id": "scan", "severity": "FATAL", "finding": f"no report: {error}: {said.read_text()[-500:]}"}]


def is_expected(finding):
    return finding["id"].split(" ")[0] in EXPECTED


def problems(findings, quick):
    wrong = [f"testssl: {each['id']}: {each['severity']}: {each['finding']}" for each in findings
             if each["severity"] in BAD and not is_expected(each)]
    if len(findings) < LEAST and not quick:
        wrong.append(f"testssl: only {len(findings)} findings: the scan broke off")
    return wrong


def rows(findings):
    """Those worth a line: [id, severity, finding, why it is no problem]."""
    return [[each["id"], each["severity"], each["finding"].replace("|", "/"), EXPECTED.get(each["id"].split(" ")[0], "")]
            for each in findings if each["severity"] in WORTH_SAYING]


def version():
    said = subprocess.run(["testssl", "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True).stdout
    found = re.search(r"testssl\S*\s+(?:version\s+)?(\d\S*)", said)
    return f"testssl.sh {found.group(1) if found else '?'}"
