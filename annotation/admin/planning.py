"""The planner before opening: how many turns for the precision that is wanted. A page that only reads."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from annotation.admin.forms import PlanForm
from annotation.models import Campaign
from annotation.workflow import planning
from annotation.workflow.opening import OpeningError


def plan_view(request: HttpRequest, campaign: Campaign) -> HttpResponse:
    """Show the plan of a campaign under the assumptions of the form, which travel in the address."""
    form = PlanForm(request.GET or None, initial=PlanForm.of(campaign))
    assumptions = form.assumptions() if form.is_valid() else None if form.is_bound else PlanForm.defaults(campaign)
    found, trouble = None, ""
    if assumptions is not None:
        try:
            found = planning.plan(campaign, assumptions)
        except OpeningError as error:
            trouble = str(error)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": f"Plan: {campaign}",
        "campaign": campaign,
        "form": form,
        "plan": found,
        "trouble": trouble,
        "half_widths": assumptions.half_widths if assumptions else (),
    }
    return TemplateResponse(request, "admin/plan.html", context)
