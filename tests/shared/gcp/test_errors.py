"""What Google's complaints mean: each as its client really gives it, by HTTP, by gRPC or by an operation."""

from __future__ import annotations

import json
from typing import Any

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import grpc
import pytest
import requests
from google.api_core.retry import Retry, if_transient_error
from google.cloud import compute_v1

from emulator.web.processes import free_port
from shared.errors import AlreadyExists, Conflict, EnvironmentFault, GoldsmithError, NotFound, Permanent, Transient
from shared.gcp.errors import Stockout, classify, mapped

WHAT = "machine gs-hello-0123456789ab-a1-build in us-central1-a"


def by_http(status: int, reason: str = "", message: str = "Sorry.", details: Any = None) -> api.GoogleAPICallError:
    """A JSON API's complaint, read from the wire's format by Google's own code."""
    response = requests.Response()
    response.status_code = status
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": "global", "reason": reason}]}
    response._content = json.dumps({"error": error | ({"details": details} if details else {})}).encode()
    response.request = requests.Request("POST", "https://compute.googleapis.com/").prepare()
    complaint: api.GoogleAPICallError = api.from_http_response(response)
    return complaint


def by_grpc(status: grpc.StatusCode, message: str = "Sorry.") -> api.GoogleAPICallError:
    error: api.GoogleAPICallError = api.from_grpc_status(status, message)
    return error


def said(error: Exception) -> GoldsmithError:
    with pytest.raises(GoldsmithError) as caught, mapped(WHAT):
        raise error
    assert str(caught.value).startswith(f"{WHAT}: ")
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (by_http(403, "rateLimitExceeded"), Transient),
        (by_http(403, "userRateLimitExceeded"), Transient),
        (by_http(429, "rateLimitExceeded"), Transient),
        (by_http(429), Transient),
        (by_http(408), Transient),
        (by_http(500, "backendError"), Transient),
        (by_http(502), Transient),
        (by_http(503), Transient),
        (by_http(504), Transient),
        (by_http(400, "resourceNotReady"), Transient),
        (by_http(400, "resourceInUseByAnotherResource"), Transient),
        (by_http(403, "quotaExceeded"), Permanent),
        (by_http(403, "forbidden"), Permanent),
        (by_http(400, "invalid"), Permanent),
        (by_http(501), Permanent),
        (by_http(401, "authError"), EnvironmentFault),
        (by_http(404, "notFound"), NotFound),
        (by_http(409, "alreadyExists"), AlreadyExists),
        (by_http(412, "conditionNotMet"), Conflict),
        (by_grpc(grpc.StatusCode.UNAVAILABLE), Transient),
        (by_grpc(grpc.StatusCode.DEADLINE_EXCEEDED), Transient),
        (by_grpc(grpc.StatusCode.RESOURCE_EXHAUSTED), Transient),
        (by_grpc(grpc.StatusCode.INTERNAL), Transient),
        (by_grpc(grpc.StatusCode.UNKNOWN), Transient),
        (by_grpc(grpc.StatusCode.CANCELLED), Transient),
        (by_grpc(grpc.StatusCode.ABORTED), Conflict),
        (by_grpc(grpc.StatusCode.ALREADY_EXISTS), AlreadyExists),
        (by_grpc(grpc.StatusCode.NOT_FOUND), NotFound),
        (by_grpc(grpc.StatusCode.INVALID_ARGUMENT), Permanent),
        (by_grpc(grpc.StatusCode.FAILED_PRECONDITION), Permanent),
        (by_grpc(grpc.StatusCode.PERMISSION_DENIED), Permanent),
        (by_grpc(grpc.StatusCode.UNIMPLEMENTED), Permanent),
        (by_grpc(grpc.StatusCode.UNAUTHENTICATED), EnvironmentFault),
        (requests.exceptions.ConnectionError("Connection aborted."), Transient),
        (requests.exceptions.ReadTimeout("Read timed out."), Transient),
        (requests.exceptions.ChunkedEncodingError("IncompleteRead(3 bytes read)"), Transient),
        (requests.exceptions.InvalidURL("no host"), Permanent),
        (ConnectionResetError("reset"), Transient),
        (TimeoutError("late"), Transient),
        (auth.TransportError("metadata server"), Transient),
        (auth.RefreshError("later", retryable=True), Transient),
        (auth.RefreshError("invalid_grant"), EnvironmentFault),
        (auth.DefaultCredentialsError("none found"), EnvironmentFault),
    ],
    ids=repr,
)
def test_each_complaint_has_its_kind(error: Exception, kind: type[GoldsmithError]) -> None:
    assert type(said(error)) is kind


@pytest.mark.parametrize(
    ("message", "constraint", "remedy"),
    [
        (
            "Constraint constraints/compute.requireShieldedVm violated for project p. Secure Boot is not enabled "
            "in the 'shielded_instance_config' field.",
            "constraints/compute.requireShieldedVm",
            "write build.secure_boot: true in the spec",
        ),
        (
            "Constraint constraints/compute.vmExternalIpAccess violated for project 1. Add instance i to it",
            "constraints/compute.vmExternalIpAccess",
            "leave build.external_ip out of the spec",
        ),
        (
            "Constraint constraints/compute.trustedImageProjects violated for project p. Use of images from project q "
            "is prohibited.",
            "constraints/compute.trustedImageProjects",
            "write a source of a project that the policy trusts",
        ),
        (
            "Location ZONE:us-central1-a violates constraint constraints/gcp.resourceLocations on the resource i.",
            "constraints/gcp.resourceLocations",
            "write locations that the policy allows: zones in build.zones",
        ),
        ("Constraint 'constraints/compute.new' violated.", "constraints/compute.new", "have its administrator make an"),
        (
            "Constraint constraints/compute.managed.vmExternalIpAccess violated for project p.",
            "constraints/compute.managed.vmExternalIpAccess",
            "leave build.external_ip out of the spec",
        ),
        (
            "Operation denied by org policy on resource 'projects/p/zones/z/instances/i': "
            '["constraints/compute.managed.requireShieldedVm": "Shielded VM only."]',
            "constraints/compute.managed.requireShieldedVm",
            "write build.secure_boot: true in the spec",
        ),
        (
            'Operation denied by org policy on resource \'projects/p\': ["constraints/compute.managed.new": "no"]',
            "constraints/compute.managed.new",
            "have its administrator make an",
        ),
        (
            'Operation denied by custom org policies: ["customConstraints/custom.noN1": "no n1"]',
            "customConstraints/custom.noN1",
            "have its administrator make an exception",
        ),
    ],
)
def test_an_organization_policy_is_named_with_its_remedy(message: str, constraint: str, remedy: str) -> None:
    """It is no lost update, with which it shares status and reason: asked again, it refuses again."""
    for error in (
        by_http(412, "conditionNotMet", message),
        by_http(400, "failedPrecondition", message),
        by_http(400, "invalid", message),
        by_http(403, "forbidden", message),
        by_grpc(grpc.StatusCode.FAILED_PRECONDITION, message),
    ):
        told = said(error)
        assert type(told) is Permanent
        assert f"the organization policy {constraint} forbids it: " in str(told)
        assert remedy in str(told)
    failed = classify(WHAT, message, status=412, reasons=("CONDITION_NOT_MET",))
    assert type(failed) is Permanent
    assert constraint in str(failed)


SEVERAL = "Multiple constraints were violated. See details for more information."
NAMED = ("constraints/compute.managed.vmExternalIpAccess", "constraints/compute.requireShieldedVm")
BROKEN = [{"message": f"Constraint {name} violated.", "reason": "conditionNotMet"} for name in NAMED]
METADATA = {"customConstraints": ",".join(NAMED)}
INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "CUSTOM_ORG_POLICY", "metadata": METADATA}


def test_of_several_policies_all_that_the_details_name_are_told() -> None:
    in_errors = api.from_http_status(412, SEVERAL, errors=BROKEN)
    in_details = by_http(412, "conditionNotMet", SEVERAL, [INFO])
    detail = compute_v1.ErrorDetails(error_info=compute_v1.ErrorInfo(metadatas=METADATA))
    operation = compute_v1.Error(errors=[compute_v1.Errors(message=SEVERAL, error_details=[detail])])
    for told in (
        said(in_errors),
        said(in_details),
        classify(WHAT, SEVERAL, status=412, reasons=("CONDITION_NOT_MET",), details=str(operation)),
    ):
        assert type(told) is Permanent
        assert f"the organization policies {', '.join(NAMED)} forbid it: Multiple constraints" in str(told)
        assert "; leave build.external_ip out of the spec" in str(told)
        assert "; write build.secure_boot: true in the spec" in str(told)


def test_policies_that_nothing_names_are_said_to_be_policies() -> None:
    told = said(by_http(412, "conditionNotMet", SEVERAL))
    assert type(told) is Permanent
    assert f"organization policies that Google does not name forbid it: {SEVERAL.rstrip('.')}; write what" in str(told)


def test_a_lost_update_of_an_object_that_is_named_like_a_policy_is_one() -> None:
    for message in ("object constraints/compute.x was changed", "At least one of the pre-conditions did not hold."):
        assert type(said(by_http(412, "conditionNotMet", message))) is Conflict


@pytest.mark.parametrize(
    "error",
    [
        by_http(
            403, "forbidden", "Required 'compute.instances.create' permission for 'projects/p/zones/z/instances/i'"
        ),
        by_http(
            403,
            "forbidden",
            "vm@p.iam.gserviceaccount.com does not have compute.instances.create access to the instance. Permission "
            "'compute.instances.create' denied on resource (or it may not exist).",
        ),
        by_http(
            403,
            "forbidden",
            "User not authorized to perform this action.",
            [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "IAM_PERMISSION_DENIED",
                    "domain": "iam.googleapis.com",
                    "metadata": {"permission": "compute.instances.create"},
                }
            ],
        ),
    ],
    ids=["Compute Engine", "Cloud Storage", "ErrorInfo"],
)
def test_the_missing_permission_is_named(error: Exception) -> None:
    assert "permission compute.instances.create is missing" in str(said(error))


def test_a_permission_that_is_not_told_is_not_guessed() -> None:
    assert "a permission is missing: No, p.iam.gserviceaccount.com;" in str(
        said(by_http(403, "forbidden", "No, p.iam.gserviceaccount.com."))
    )


def test_the_quota_is_named() -> None:
    text = "Quota 'SSD_TOTAL_GB' exceeded.  Limit: 500.0 in region us-central1."
    assert "quota SSD_TOTAL_GB is used up" in str(said(by_http(403, "quotaExceeded", text)))
    assert "quota SSD_TOTAL_GB is used up" in str(classify(WHAT, text, reasons=("QUOTA_EXCEEDED",)))


@pytest.mark.parametrize("code", ["ZONE_RESOURCE_POOL_EXHAUSTED", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"])
def test_a_stockout_asks_for_another_zone(code: str) -> None:
    error = classify(WHAT, "The zone does not have enough resources.", status=503, reasons=(code,))
    assert type(error) is Stockout
    assert isinstance(error, Transient)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("RESOURCE_ALREADY_EXISTS", 409, AlreadyExists),
        ("RESOURCE_NOT_FOUND", 404, NotFound),
        ("RESOURCE_OPERATION_RATE_EXCEEDED", 429, Transient),
        ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", 400, Transient),
        ("RESOURCE_NOT_READY", 400, Transient),
        ("PERMISSIONS_ERROR", 403, Permanent),
        ("INTERNAL_ERROR", 500, Transient),
        ("INVALID_USAGE", 400, Permanent),
        ("UNSUPPORTED_OPERATION", 0, Permanent),
    ],
)
def test_an_operation_s_code_is_read_with_or_without_a_status(
    code: str, status: int, kind: type[GoldsmithError]
) -> None:
    assert type(classify(WHAT, "Sorry.", status=status, reasons=(code,))) is kind
    assert type(classify(WHAT, "Sorry.", reasons=(code,))) is kind


def test_an_api_that_is_off_is_told_with_the_command() -> None:
    text = str(said(by_http(403, "accessNotConfigured", "Compute Engine API has not been used in project 1 before.")))
    assert "gcloud services enable" in text


def test_silence_is_told_as_such() -> None:
    assert str(said(by_grpc(grpc.StatusCode.UNKNOWN, ""))) == f"{WHAT}: Unknown, without a word; it can be tried again"


def test_a_whole_answer_in_place_of_a_message_is_read() -> None:
    """As Cloud Storage's client gives what an upload or a download was answered."""
    answer = by_http(403, "rateLimitExceeded", "Slow down.").response
    error = api.from_http_status(403, f"PUT https://storage.googleapis.com/: {answer.text}: no", response=answer)
    assert str(said(error)) == f"{WHAT}: Slow down; it can be tried again"
    assert type(said(error)) is Transient


def test_a_retry_that_gave_up_is_what_it_gave_up_on() -> None:
    def fail() -> None:
        raise by_http(503, message="overloaded")

    with pytest.raises(Transient, match="overloaded"), mapped(WHAT):
        Retry(predicate=if_transient_error, initial=0.001, timeout=0.01)(fail)()


def test_a_port_without_a_listener_is_transient() -> None:
    with pytest.raises(Transient, match="cannot be reached"), mapped(WHAT):
        requests.get(f"http://127.0.0.1:{free_port()}/", timeout=5)


def test_what_is_not_googles_passes() -> None:
    with pytest.raises(KeyError), mapped(WHAT):
        raise KeyError("ours")
    with pytest.raises(Conflict, match=r"^ours$"), mapped(WHAT):
        raise Conflict("ours")
