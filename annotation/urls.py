from __future__ import annotations

from django.urls import include, path

from annotation import views

urlpatterns = [
    path("", views.queues, name="queues"),
    path("health/live", views.live, name="live"),
    path("health/ready", views.ready, name="ready"),
    path("join/<str:token>/", views.join, name="join"),
    path("me/", views.account, name="account"),
    path("me/tokens/", views.account_token, name="account_token"),
    path("me/tokens/<int:token_id>/revoke/", views.account_token_revoke, name="account_token_revoke"),
    path("me/data.json", views.account_data, name="account_data"),
    path("me/withdraw/<slug:campaign>/", views.account_withdraw, name="account_withdraw"),
    path("campaigns/<slug:campaign>/", views.campaign, name="campaign"),
    path("campaigns/<slug:campaign>/invite/", views.invite, name="campaign_invite"),
    path("campaigns/<slug:campaign>/move/", views.campaign_move, name="campaign_move"),
    path("campaigns/<slug:campaign>/take-in/", views.campaign_take_in, name="campaign_take_in"),
    path(
        "campaigns/<slug:campaign>/annotators/<slug:pseudonym>/reassign/",
        views.campaign_reassign,
        name="campaign_reassign",
    ),
    path(
        "campaigns/<slug:campaign>/annotators/<slug:pseudonym>/active/", views.campaign_active, name="campaign_active"
    ),
    path("campaigns/<slug:campaign>/<slug:task>/", views.workbench, name="workbench"),
    path("reports/<uuid:report_id>/", views.report, name="report"),
    path("reports/<uuid:report_id>/bundle.zip", views.report_bundle, name="report_bundle"),
    path("reports/<uuid:report_id>/files/<path:name>", views.report_file, name="report_file"),
    path("reports/<uuid:report_id>/against/<uuid:other_id>/", views.report_comparison, name="report_comparison"),
    path("jobs/<uuid:job_id>/cancel/", views.job_cancel, name="job_cancel"),
    path("api/", include("annotation.api.urls")),
]
