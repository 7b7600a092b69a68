"""Write docs/lifecycle.md, all of it, from the table in shared/engine/lifecycle.py and the docstrings of what it names.

python -m docs.generate_lifecycle > docs/lifecycle.md
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from shared.build.build import Outcome, State
from shared.build.events import Event
from shared.build.orders import ORDER_KINDS
from shared.engine.lifecycle import (
    CLEANING_PATIENCE,
    MAIN_PATH,
    ORDER_OF,
    PATIENCE,
    RULES,
    Rule,
    always,
    order_on_entering,
)

INTRODUCTION = f"""\
# The lifecycle of a build

Made from `shared/engine/lifecycle.py` by `python -m docs.generate_lifecycle > docs/lifecycle.md`; a test holds the two
together, so change the table there, never this page.

A build is in one of {len(State)} states. An event leads it on by the first rule that holds; one that no rule is for
(late, twice, of an earlier attempt, of another build) is ignored with a reason. The outcome is decided once, on the way
into `cleaning`, and every build passes `cleaning`. Entering a state gives the state's order, and writes into the ledger
what that order may make. An order that is not answered within {PATIENCE:.0f} s is given again; a clean-up after
{CLEANING_PATIENCE:.0f} s, and ever more rarely when it is stuck.
"""

RETRIES = """\
## Retries

A build that fails once its steps are done keeps what they have cost, announces its outcome at once, and can be retried: a new build (`retry_of`) goes on from the phase that failed, or from an earlier one.

| it failed | it keeps | for | and is |
| --- | --- | --- | --- |
| when its image was made, its VM having been seen stopped | the boot disk; on Google Cloud alone | `retry_disk_for` | `held` |
| when the files of its image were written, or in verification | the image | `retry_for`, or `build --retry-for`; with `verify.keep_failed` 7 days | `finished` |
| in publication | the image | 7 days | `finished` |

The document of the image's name says whose all that is. A retry takes it over in the write that creates the retry, on condition that it is still the first build's; the end of the time, a sweep and `builds cancel` write on the same condition, or give the document up before they delete anything. So one of them wins, and what was taken
over is in the ledger of the retry, and of no one else. Its name stays: late orders of the first build look for a retry before they delete.

An image that has failed verification is never published without having passed it since.
[Decision 84](decisions/0084-retry-from-where-it-failed.md) and [91](decisions/0091-retries-on-google-cloud.md) have the reasons.
"""  # noqa: E501 - rows of tables

CHANNELS = """\
## Channels

A family leads to what was built last. A channel leads to what was promoted last: the channel `prod` of the family `web`
is the family `web-prod`, which anything that takes a family can name.

    goldsmith images promote web-20261120 --to prod     # image web-20261120-prod, newest of family web-prod

A promotion makes a second image from the first, on one machine with the same disk, and puts it into the channel's
family when all is recorded; the first image and its family stay as they are. Only a published, verified image can be
promoted that is not revoked, so a channel leads to no other. The last promotion wins, also that of an older image.
A promotion that was cut off is finished by the same command, and one that is done already changes nothing. It is
refused where the channel leads to a newer copy by now: revoke that one, or delete the older copy and promote its image
again.

A revocation of the first image takes its copies along, and each channel goes back to its newest good copy; a copy can
also be revoked alone. A spec whose family is the channel of a family that there is already is refused, and so is a
retry of its build, or an import.

The channels of one machine are in `channels.json` of `GOLDSMITH_HOME`. Their names have no dashes:

    {"dev": {}, "staging": {}, "prod": {}}

On Google Cloud they are Terraform's variable `channels`, and operators publish the request, which `deprecate_images`
carries out; its log says what came of it. A copy there has its own storage, in the locations and with the key of the
first image:

    gcloud pubsub topics publish image-requests --project PROJECT \\
      --message '{"promote": {"image": "web-20261120", "to": "prod"}}'

[Decision 85](decisions/0085-channels-are-families-of-copies.md) has the reasons.

### Approvals

A channel can name `approvers`, mail addresses. A promotion to it is recorded and waits until two of them have approved
it; then it is carried out as any other. It lapses after `approve_within`, 7 days without it, and one of them can refuse
it until then.

    {"dev": {}, "prod": {"approvers": ["ann-approves@my-project.iam.gserviceaccount.com", "ben-approves@..."],
                         "approve_within": "36h"}}

On Google Cloud, an approval counts if an identity token proves it: signed by Google, and for this deployment, image,
channel, answer and promotion alone. `gcloud` gives such a token in the name of a service account, and not for a
person's own login. So each approver has a service account that only this person may impersonate, which is what the
channel names:

    gcloud iam service-accounts create ann-approves --project my-project
    gcloud iam service-accounts add-iam-policy-binding ann-approves@my-project.iam.gserviceaccount.com \\
      --member user:ann@example.com --role roles/iam.serviceAccountTokenCreator --project my-project

Approvers who are `operators`, too, say yes or no with one command, which gets the token from `gcloud`, publishes the
request and waits until the answer is recorded:

    goldsmith images approvals --project my-project
    goldsmith images approve web-20261120 --channel prod --project my-project \\
      --impersonate ann-approves@my-project.iam.gserviceaccount.com --reason "a week in staging without faults"

Others get a token for the audience that `goldsmith images approvals --json` prints, with `gcloud auth
print-identity-token --impersonate-service-account=ACCOUNT --include-email --audiences=AUDIENCE`, and an operator
publishes it: the token, and not who publishes it, is what counts.

    {"approve": {"image": "web-20261120", "channel": "prod", "reason": "good", "token": "eyJ..."}}
    {"refuse": {"image": "web-20261120", "channel": "prod", "reason": "too early", "token": "eyJ..."}}

The record keeps the address, the time, the reason and a digest of the token. Who may approve, and whether it is still
the very image that people were asked about, verified and not revoked, is looked at once more when the promotion is
carried out; if it cannot be, that is its end, and the record says why. A promotion that was approved and is not carried
out, because its function died, goes on when it is asked for or approved again. `deprecate_images` logs what comes of
each request. One that lapses is logged by `expire_builds` and raises the alert promotion_lapsed.

On one machine, an approval is a record and no border: `goldsmith images approve` notes the name of the account and the
reason, one is enough, and an account that can run it can also write to the home.
[Decision 86](decisions/0086-approvals-are-proved-by-tokens.md) has the reasons.
"""

TRIGGERS = """\
## Builds by triggers

A spec with [`triggers`](spec.md#triggers) is a document of the store, beside builds. A look at it strikes the builds that have ended, compares source image and period with those that it remembers, and writes down the next build with its
cause and number, on condition that the document is still as it was. The number and the cause are the build's request, so its id is known before it begins, and asking for it any number of times begins it once.

    source image, time ── advance_trigger() ── written, if unchanged ── asked for until the build is there ── ended: struck
"""  # noqa: E501 - rows of tables

RETIREMENT = """\
## Old images

The date "deleted" that `output.deprecate_old.ttl` gives a deprecated image deletes nothing: neither Compute Engine nor
the functions act on it. Images go away by rule only where the deployer, or the owner of a home, has set one for
their family; a spec cannot. On one machine,
[`goldsmith images retire`](command-line.md#goldsmith-images-retire) does it.

On Google Cloud, the variables [`retire_images` and `consumers`](deployment.md#variables) of `terraform/` say it, for
families of the deployment's project, and `retire_images` does it every six hours. The dashboard's `/retirement` is the
report of its last run: what stays and why, what went, and what could not be done. It is also the object
`retirement/report.json` of the bucket, with up to 2000 images, which `goldsmith images retire --project PROJECT`
prints; with `--dry-run` it says what a run would do now.

Deletion has two phases:

1. An image that is old enough, and that nothing uses, becomes OBSOLETE. Nothing new can be made of it then: Compute Engine refuses it, and so does Goldsmith on one machine.
2. A day later, at least, everything that may use it is listed again. If nothing does, it is deleted, by its id. A list that is not whole, since a zone cannot be
   reached, counts as one that cannot be read.

An image stays, with the reason, if any of these holds:

| an image stays | because |
| --- | --- |
| its family leads to it, or it is the newest of its family | users of the family must find an image |
| it is among the `keep` newest that the family may lead to | a revocation goes back to one of them; bad images do not count |
| one of those was deprecated for it | its record shows that Goldsmith has deprecated that one, and no person |
| it is younger than `older_than` | the rule says so |
| something uses it | a build that has not ended, its copy in a channel, or an image that was made from it and is not going itself; on one machine also a process or loop device that has its disk open; on Google Cloud a disk, an instance template or a managed instance group of the deployment's project or of `consumers` |
| not all that may use it can be read | what cannot be read is named |
| Goldsmith has no record that it published it | also images of `adopted_families` are never deleted |
| a person has made it active again after phase one | it stays for good; to delete it is up to people |

An image that is used at the second look stays OBSOLETE, and the output says so. Each phase is recorded in the image's
document before and after its call, so a run that is killed is gone on with by the next one.
[Decision 87](decisions/0087-images-are-retired-in-two-phases.md) has the reasons.
"""  # noqa: E501 - rows of tables

REVOCATION = """\
## Revoked images

A published image that turns out to be bad is taken back: on one machine by
[`goldsmith images revoke`](command-line.md#goldsmith-images-revoke-name), on Google Cloud by a message that operators
publish:

    gcloud pubsub topics publish image-requests --project PROJECT \\
      --message '{"revoke": {"image": "web-20261120", "reason": "its sshd takes any password"}}'

`image` is an image of the deployment's project, or PROJECT/NAME. `"alone": true` revokes it also where its family has
no other good image. `deprecate_images` carries the request out, and its log says what came of it: the image is OBSOLETE
and has the label `goldsmith-revoked`, the family leads to the newest good image before it, and no plan takes it as a
source any more. [Decision 81](decisions/0081-revoked-images.md) has the rules.

The log and the image's record also say what uses the image, or a copy of it: disks with the VMs that run from them,
instance templates and managed instance groups, in the deployment's project and in `consumers`, at most 200. A project
that cannot be read is named. `goldsmith images check` lists what uses an image that must not be used.

Images that were built from it are named, and not revoked. With `"cascade": true`, or `--cascade` on one machine, their
specs are built again, each once, when their sources lead to an image that was not built from it: those of the first
level at once, the next ones when these have succeeded, for a week at most. On Google Cloud `expire_builds` asks for
them each minute, as for [builds by triggers](#builds-by-triggers). What is not built again is named with the reason.
[Decision 96](decisions/0096-rebuilds-after-a-revocation.md) has the rules.

Terraform can refuse an image that is revoked, or that Goldsmith has not made, before it makes a machine of it:

```terraform
data "google_compute_image" "web" {
  project = "my-project"
  name    = "web-20261120"

  lifecycle {
    postcondition {
      condition     = alltrue([
        contains(keys(self.labels), "goldsmith-build"),
        !contains(keys(self.labels), "goldsmith-revoked"),
      ])
      error_message = "${self.name} was revoked, or Goldsmith has not made it."
    }
  }
}
```

Labels are for people: an account with `compute.images.setLabels` in that project can set them. Keep it a project for
images alone. The organization policy `compute.trustedImageProjects` then limits boot disks to its images, and a custom
constraint on `compute.googleapis.com/Image` can deny there to create an image without the label `goldsmith-build`.
Neither policy knows of revocations. That no new disk is made of a revoked image is the work of its state, OBSOLETE.
"""

ANNOUNCE = "The finished build, whole, to the topic builds-finished."
ABSENT = "–"


def page() -> str:
    """Return the whole document."""
    parts = [
        INTRODUCTION,
        diagram(),
        "## Rules\n\nThe first that holds wins.\n",
        rules(),
        "## Events\n",
        table(("event", "what has happened"), ((kind.__name__, sentence(kind)) for kind in get_args(Event))),
        "## Orders\n",
        table(("order", "given on entering", "what is asked for"), map(order, ORDER_KINDS)),
        "## Outcomes\n",
        table(("outcome", "decided by"), ((code(outcome), deciders(outcome)) for outcome in Outcome)),
        RETRIES,
        CHANNELS,
        TRIGGERS,
        REVOCATION,
        RETIREMENT,
    ]
    return "\n".join(parts)


def diagram() -> str:
    """Return the state diagram; a rule for the whole main path is one arrow."""
    main = [f"        {line}" for line in arrows(rule for rule in RULES if rule.at != MAIN_PATH and on_main_path(rule))]
    rest = [f"    {line}" for line in arrows(rule for rule in RULES if rule.at == MAIN_PATH or not on_main_path(rule))]
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> queued : BuildRequested and queued",
            "    [*] --> preparing : BuildRequested",
            "    [*] --> cleaning : BuildRejected, or BuildRequested and unchanged",
            '    state "main path" as main {',
            *main,
            "    }",
            *rest,
            "    finished --> [*]",
            "```",
            "",
        ]
    )


def on_main_path(rule: Rule) -> bool:
    """Return whether a rule stays within the main path."""
    return rule.to in MAIN_PATH and set(rule.at) <= set(MAIN_PATH)


def arrows(chosen: Iterable[Rule]) -> list[str]:
    """Return the arrows of rules that enter a state, those between the same two states as one."""
    labels: dict[tuple[str, str], list[str]] = {}
    for rule in chosen:
        for state in ("main",) if rule.at == MAIN_PATH else rule.at:
            if rule.to is not None:
                labels.setdefault((state, rule.to), []).append(label(rule))
    return [f"{start} --> {end} : {'<br/>'.join(texts)}" for (start, end), texts in labels.items()]


def label(rule: Rule) -> str:
    """Return what an arrow says: the event, and its guard when it has one."""
    return rule.on.__name__ + ("" if rule.when is always else f", {rule.when.__name__}")


def rules() -> str:
    """Return all rules, in their order."""
    heads = ("in", "on", "when", "to", "outcome", "order", "also")
    return table(heads, (row(rule) for rule in RULES))


def row(rule: Rule) -> Sequence[str]:
    """Return one rule's line."""
    at = "the main path" if rule.at == MAIN_PATH else ", ".join(rule.at)
    entered = order_on_entering(rule.to, rule.at[0]) if rule.to else None
    given = (*rule.gives, *((entered,) if entered else ()))
    return (
        at,
        rule.on.__name__,
        condition(rule.when),
        rule.to or ABSENT,
        rule.outcome or ABSENT,
        ", ".join(map(code, given)) or ABSENT,
        sentence(rule.then) if rule.then else ABSENT,
    )


def order(kind: str) -> Sequence[str]:
    """Return one order's line: the first line of its worker's module."""
    states = [state for state, given in ORDER_OF.items() if given == kind]
    if kind == "announce":
        return code(kind), ", ".join(states), ANNOUNCE
    module = importlib.import_module(f"shared.workers.{kind}")
    return code(kind), ", ".join(states) or ABSENT, sentence(module).removeprefix(f"{kind}: ")


def deciders(outcome: Outcome) -> str:
    """Return the rules that decide an outcome."""
    found = list(dict.fromkeys(label(rule) for rule in RULES if rule.outcome is outcome))
    if outcome is Outcome.UNCHANGED:
        found.append("BuildRequested, when an image has this content already")
    if outcome is Outcome.FAILED:
        found.append("BuildRejected")
    return "; ".join(found)


def sentence(thing: Callable[..., Any] | object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(thing) or "").splitlines()[0]


def condition(guard: Callable[..., bool]) -> str:
    """Return when a guard holds, from the docstring that says what it returns."""
    text = sentence(guard).removeprefix("Return whether ").removeprefix("Return True ")
    return text[0].upper() + text[1:]


def code(text: str) -> str:
    """Set a text as code."""
    return f"`{text}`"


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    shown = [heads, ["---"] * len(heads), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in shown)


if __name__ == "__main__":
    sys.stdout.write(page())
