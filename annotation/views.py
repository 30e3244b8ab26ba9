"""Pages. Each shows what a step knows; none decides anything."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.access import campaigns_of, requires_role, roles_of
from annotation.forms import HalfWidthForm, JoinForm
from annotation.models import Campaign, Membership, ReportRun, Role, Task, User
from annotation.workflow import accounts, jobs, overview, progress, reporting, steering
from annotation.workflow.verification import judged_aside


def whole(request: HttpRequest, name: str, default: int, low: int, high: int) -> int:
    """A number of a form, put into its range; whatever is no number is the default."""
    try:
        return min(max(int(request.POST.get(name) or default), low), high)
    except ValueError:
        return default


@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return JsonResponse({"status": "live"})


@require_GET
def ready(request: HttpRequest) -> HttpResponse:
    """The process answers and reaches its database."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:
        return JsonResponse({"status": "the database does not answer"}, status=503)
    return JsonResponse({"status": "ready"})


@require_GET
@login_required
def queues(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    return render(
        request,
        "annotation/queues.html",
        {
            "queues": progress.queues_of(user),
            "researching": campaigns_of(user, [Role.RESEARCHER]),
        },
    )


@require_GET
@never_cache
@ensure_csrf_cookie
@requires_role(Role.ANNOTATOR, Role.ADJUDICATOR)
def workbench(request: HttpRequest, campaign: Campaign, task: str) -> HttpResponse:
    held = roles_of(cast(User, request.user), campaign)
    needed = Role.ADJUDICATOR if task == "adjudicate" else Role.ANNOTATOR
    if needed not in held or task not in {*Task.values, "adjudicate"}:
        raise Http404
    return render(request, "annotation/workbench.html", {"campaign": campaign, "task": task})


MOST_ASIDE = 50
"""Set-aside answers shown at once; those that fit can all be taken in at once."""


def campaign_context(campaign: Campaign, *, half_width: float = 0.05) -> dict[str, Any]:
    state = overview.campaign_state(campaign)
    return {
        "campaign": campaign,
        "state": state,
        "half_width": half_width,
        "precision": [(one, one.more(half_width), overview.why_undefined(one)) for one in state.precision],
        "aside": judged_aside(campaign, most=MOST_ASIDE) if state.set_aside else [],
        "reports": campaign.report_runs.filter(finished_at__isnull=False)[:10],
    }


@require_GET
@requires_role(Role.RESEARCHER)
def campaign(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    form = HalfWidthForm(request.GET or None)
    wanted = form.cleaned_data["half_width"] if form.is_valid() else 0.05
    return render(request, "annotation/campaign.html", campaign_context(campaign, half_width=wanted))


@require_POST
@requires_role(Role.RESEARCHER)
def campaign_move(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """Pause, close or reopen."""
    to = str(request.POST.get("to", ""))
    if to not in steering.MOVES:
        raise Http404
    moved = steering.move(campaign, to, by=cast(User, request.user))
    state = campaign.get_state_display()
    if moved:
        messages.success(request, _("The campaign is %(state)s now.") % {"state": _(state)})
    else:
        messages.error(request, _("Nothing changed: the campaign is %(state)s.") % {"state": _(state)})
    return redirect("campaign", campaign.name)


def annotator_or_404(campaign: Campaign, pseudonym: str) -> Membership:
    member = steering.annotator_of(campaign, pseudonym)
    if member is None:
        raise Http404
    return member


@require_POST
@requires_role(Role.RESEARCHER)
def campaign_reassign(request: HttpRequest, campaign: Campaign, pseudonym: str) -> HttpResponse:
    member = annotator_or_404(campaign, pseudonym)
    freed = steering.reassign(campaign, member, by=cast(User, request.user))
    said = ngettext(
        "%(n)s item that %(person)s held goes to others.", "%(n)s items that %(person)s held go to others.", freed
    )
    messages.success(request, said % {"n": freed, "person": member.user})
    return redirect("campaign", campaign.name)


@require_POST
@requires_role(Role.RESEARCHER)
def campaign_active(request: HttpRequest, campaign: Campaign, pseudonym: str) -> HttpResponse:
    """Let an annotator out, or in again."""
    member, active = annotator_or_404(campaign, pseudonym), request.POST.get("active") == "1"
    if not steering.set_active(campaign, member, active=active, by=cast(User, request.user)):
        messages.error(request, _("%(person)s has withdrawn and is not let in again.") % {"person": member.user})
    elif active:
        messages.success(request, _("%(person)s takes part again.") % {"person": member.user})
    else:
        said = _("%(person)s is dealt nothing more; what was held goes to others, the answers stay.")
        messages.success(request, said % {"person": member.user})
    return redirect("campaign", campaign.name)


@require_POST
@requires_role(Role.RESEARCHER)
def campaign_take_in(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """Let answers count that were set aside: the one named, or all that fit."""
    user, named = cast(User, request.user), str(request.POST.get("judgment", ""))
    if not named:
        taken, left = steering.take_in_all(campaign, by=user)
        said = _("%(taken)s answers were taken in, %(left)s stay aside.") % {"taken": taken, "left": left}
        messages.success(request, said)
        return redirect("campaign", campaign.name)
    outcome = steering.take_in(campaign, named, by=user) if is_uuid(named) else None
    if outcome is None:
        raise Http404
    if outcome.fits:
        messages.success(request, _("The answer counts now."))
    else:
        messages.error(request, f"{_('The answer stays aside.')} {outcome.sentence}")
    return redirect("campaign", campaign.name)


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


@require_POST
@requires_role(Role.RESEARCHER)
def invite(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    role = request.POST.get("role", Role.ANNOTATOR)
    if role not in Role.values:
        raise Http404
    link = accounts.invite(
        campaign=campaign,
        role=role,
        uses=whole(request, "uses", 1, 1, 200),
        days=whole(request, "days", 14, 1, 90),
        by=cast(User, request.user),
    )
    address = request.build_absolute_uri(f"/join/{link}/")
    return render(
        request,
        "annotation/campaign.html",
        {**campaign_context(campaign), "invitation": address, "invited_role": role},
    )


@never_cache
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Follow an invitation: with the account one has, or with a new one."""
    invitation = accounts.open_invitation(token)
    if invitation is None:
        return render(request, "annotation/join_closed.html", status=404)
    if request.user.is_authenticated:
        if request.method == "POST":
            accounts.accept(token=token, user=request.user)
            return redirect("queues")
        return render(request, "annotation/join.html", {"invitation": invitation, "form": None})
    form = JoinForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        if accounts.accept(token=token, user=user) is None:
            user.delete()
            return render(request, "annotation/join_closed.html", status=404)
        login(request, user, backend="django.contrib.auth.backends.ModelBackend")
        return redirect("queues")
    return render(request, "annotation/join.html", {"invitation": invitation, "form": form})


def report_for(user: User, report_id: str) -> ReportRun:
    """A finished report the person may read: of a campaign she researches, or any as superuser."""
    report = get_object_or_404(ReportRun.objects.select_related("campaign"), pk=report_id)
    if not user.is_superuser and (report.campaign is None or Role.RESEARCHER not in roles_of(user, report.campaign)):
        raise Http404
    return report


@require_GET
@login_required
def report(request: HttpRequest, report_id: str) -> HttpResponse:
    found = report_for(cast(User, request.user), report_id)
    if found.finished_at is None:
        job = found.job
        return render(request, "annotation/report_pending.html", {"report": found, "job": job})
    return render(
        request,
        "annotation/report.html",
        {"report": found, "body": reporting.page_body(found), "files": reporting.files(found)},
    )


@require_GET
@login_required
def report_file(request: HttpRequest, report_id: str, name: str) -> FileResponse:
    """A file of the bundle, always as a download: nothing that came from users is served inline."""
    found = report_for(cast(User, request.user), report_id)
    handle = reporting.open_file(found, name)
    if handle is None:
        raise Http404
    inline = name.startswith("figures/") and name.endswith((".svg", ".png"))
    return FileResponse(handle, as_attachment=not inline, filename=name.rsplit("/", 1)[-1])


@require_GET
@login_required
def report_bundle(request: HttpRequest, report_id: str) -> StreamingHttpResponse:
    found = report_for(cast(User, request.user), report_id)
    return reporting.bundle_response(found)


@require_GET
@login_required
def report_comparison(request: HttpRequest, report_id: str, other_id: str) -> HttpResponse:
    user = cast(User, request.user)
    first, second = report_for(user, report_id), report_for(user, other_id)
    return render(
        request,
        "annotation/report_comparison.html",
        {"first": first, "second": second, "rows": reporting.compare(first, second)},
    )


@require_GET
@login_required
def account(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    return render(
        request, "annotation/account.html", {"memberships": accounts.memberships(user), "tokens": user.api_tokens.all()}
    )


@require_POST
@login_required
def account_token(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    secret = accounts.make_token(
        user=user,
        name=request.POST.get("name", "")[:80] or "token",
        scope="write" if request.POST.get("scope") == "write" else "read",
        days=whole(request, "days", 30, 1, 365),
    )
    return render(
        request,
        "annotation/account.html",
        {"memberships": accounts.memberships(user), "tokens": user.api_tokens.all(), "secret": secret},
    )


@require_POST
@login_required
def account_token_revoke(request: HttpRequest, token_id: int) -> HttpResponse:
    if not accounts.revoke_token(user=cast(User, request.user), token_id=token_id):
        raise Http404
    return redirect("account")


@require_GET
@login_required
def account_data(request: HttpRequest) -> HttpResponse:
    """Everything the product holds about the person who asks, as one JSON file."""
    response = JsonResponse(accounts.own_data(cast(User, request.user)), json_dumps_params={"indent": 1})
    response["Content-Disposition"] = 'attachment; filename="my-data.json"'
    return response


@require_POST
@login_required
def account_withdraw(request: HttpRequest, campaign: str) -> HttpResponse:
    user = cast(User, request.user)
    found = Campaign.objects.filter(name=campaign, memberships__user=user, memberships__active=True).first()
    if found is None:
        raise Http404
    accounts.withdraw(user=user, campaign=found)
    return redirect("account")


@require_POST
@login_required
def job_cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    job = jobs.visible(cast(User, request.user)).filter(pk=job_id).first()
    if job is None:
        raise Http404
    jobs.request_cancel(job)
    back = str(request.POST.get("next", ""))
    return redirect(back if back.startswith("/admin/") else "queues")
