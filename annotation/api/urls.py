"""Every address below /api/."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

from annotation.api import adjudication, annotation, jobs, research, steering
from annotation.api import schema as schema  # registers how we sign in

urlpatterns = [
    path("queues/", annotation.QueuesApi.as_view(), name="api_queues"),
    path("campaigns/<slug:campaign>/workbench/", annotation.WorkbenchApi.as_view(), name="api_workbench"),
    path("campaigns/<slug:campaign>/lease/", annotation.LeaseApi.as_view(), name="api_lease"),
    path("campaigns/<slug:campaign>/judgments/", annotation.JudgmentsApi.as_view(), name="api_judgments"),
    path("campaigns/<slug:campaign>/return/", annotation.ReturnApi.as_view(), name="api_return"),
    path("campaigns/<slug:campaign>/history/", annotation.HistoryApi.as_view(), name="api_history"),
    path("campaigns/<slug:campaign>/practice/", annotation.PracticeApi.as_view(), name="api_practice"),
    path("campaigns/<slug:campaign>/consent/", annotation.ConsentApi.as_view(), name="api_consent"),
    path("campaigns/<slug:campaign>/adjudication/", adjudication.AdjudicationApi.as_view(), name="api_adjudication"),
    path("imports/", jobs.ImportApi.as_view(), name="api_imports"),
    path("jobs/", jobs.JobListApi.as_view(), name="api_jobs"),
    path("jobs/<uuid:job_id>/", jobs.JobApi.as_view(), name="api_job"),
    path("jobs/<uuid:job_id>/cancel/", jobs.JobCancelApi.as_view(), name="api_job_cancel"),
    path("campaigns/", research.CampaignListApi.as_view(), name="api_campaigns"),
    path("campaigns/<slug:campaign>/", research.CampaignApi.as_view(), name="api_campaign"),
    path("campaigns/<slug:campaign>/state/", research.CampaignStateApi.as_view(), name="api_campaign_state"),
    path("campaigns/<slug:campaign>/plan/", steering.PlanApi.as_view(), name="api_plan"),
    path("campaigns/<slug:campaign>/precision/", steering.PrecisionApi.as_view(), name="api_precision"),
    path("campaigns/<slug:campaign>/invitations/", steering.InvitationsApi.as_view(), name="api_invitations"),
    path("campaigns/<slug:campaign>/set-aside/", steering.SetAsideApi.as_view(), name="api_set_aside"),
    path(
        "campaigns/<slug:campaign>/annotators/<slug:pseudonym>/",
        steering.AnnotatorApi.as_view(),
        name="api_annotator",
    ),
    path(
        "campaigns/<slug:campaign>/annotators/<slug:pseudonym>/reassign/",
        steering.ReassignApi.as_view(),
        name="api_reassign",
    ),
    path("campaigns/<slug:campaign>/agreement/", research.AgreementApi.as_view(), name="api_agreement"),
    path("campaigns/<slug:campaign>/export/<slug:table>/", research.ExportApi.as_view(), name="api_export"),
    path(
        "campaigns/<slug:campaign>/interchange/<slug:tool>/",
        research.InterchangeApi.as_view(),
        name="api_interchange",
    ),
    path("codebook/", research.CodebookApi.as_view(), name="api_codebook"),
    path("corpus/", research.CorpusApi.as_view(), name="api_corpus"),
    path("reports/", research.ReportListApi.as_view(), name="api_reports"),
    path("reports/<uuid:report_id>/", research.ReportApi.as_view(), name="api_report"),
    path("schema/", SpectacularAPIView.as_view(), name="api_schema"),
    path("me/preferences/", annotation.PreferencesApi.as_view(), name="api_preferences"),
]
