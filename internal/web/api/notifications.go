package api

import (
	"context"
	"net/http"

	"github.com/belfryhq/belfry/internal/auth"
	"github.com/belfryhq/belfry/internal/belfry"
)

// NotificationManager sends messages about objects by hand; all of it is in
// *manage.Manager.
type NotificationManager interface {
	NotificationReach(ctx context.Context, by By, n belfry.Notification) (belfry.Reach, error)
	Notify(ctx context.Context, by By, n belfry.Notification) (belfry.Notification, error)
	Notification(ctx context.Context, tenant, id string) (belfry.Notification, error)
	Notifications(ctx context.Context, tenant, after string, limit int) ([]belfry.Notification, string, error)
	PauseNotification(ctx context.Context, by By, id, because string) (belfry.Notification, error)
	ResumeNotification(ctx context.Context, by By, id string) (belfry.Notification, error)
	CancelNotification(ctx context.Context, by By, id string) (belfry.Notification, error)
}

// NotificationDraft is a message to people that somebody chose.
type NotificationDraft struct {
	Object     string        `json:"object,omitempty" doc:"What it is about; empty = the root"`
	Recipients []belfry.Rule `json:"recipients" doc:"Rules, as subscriptions have them"`
	Channels   []string      `json:"channels,omitempty" doc:"Empty = each person's own choice"`
	Template   string        `json:"template,omitempty" doc:"A stored message, instead of subject and body"`
	Subject    string        `json:"subject,omitempty" doc:"One line, with mustache values"`
	Body       string        `json:"body,omitempty" doc:"Markdown, with mustache values"`
	From       string        `json:"from,omitempty" doc:"The user who writes: her name is shown, answers go to her"`
}

func (d *NotificationDraft) notification() belfry.Notification {
	return belfry.Notification{Object: d.Object, Recipients: d.Recipients, Channels: d.Channels, Template: d.Template, Subject: d.Subject, Body: d.Body, From: d.From}
}

func (s *Server) notificationRoutes() {
	const base, item = "/v1/notifications", "/v1/notifications/{id}"
	route(s, spec{id: "reachNotification", method: http.MethodPost, path: base + "/reach", tag: "Notifications", may: auth.Read, summary: "Say whom a message would tell",
		detail: "How many people and addresses by channel, and who is left out and why, by the facts of this moment. Nothing is stored or sent."},
		func(ctx context.Context, c *call, in *struct{ body[NotificationDraft] }) (*reply[belfry.Reach], error) {
			r, err := s.Manage.NotificationReach(ctx, c.by(), in.Value.notification())
			return &reply[belfry.Reach]{Status: http.StatusOK, Body: r}, err
		})
	route(s, spec{id: "sendNotification", method: http.MethodPost, path: base, tag: "Notifications", may: auth.Admin, status: http.StatusAccepted, summary: "Send a message about an object to chosen people",
		detail: "It is carried out by a subscription and an event of its own, so mutes, opt-outs, visibility and traces hold for it as for others."},
		func(ctx context.Context, c *call, in *struct {
			Keyed
			body[NotificationDraft]
		}) (*reply[belfry.Notification], error) {
			n, err := s.Manage.Notify(ctx, c.by(), in.Value.notification())
			if err != nil {
				return nil, err
			}
			return &reply[belfry.Notification]{Status: http.StatusAccepted, Location: base + "/" + n.ID, Body: n}, nil
		})
	route(s, spec{id: "listNotifications", method: http.MethodGet, path: base, tag: "Notifications", may: auth.Read, summary: "List messages that were sent by hand, oldest first"},
		func(ctx context.Context, c *call, in *struct{ Paging }) (*reply[list[belfry.Notification]], error) {
			ns, next, err := s.Manage.Notifications(ctx, c.tenant(), in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			return listOf(ns, next), nil
		})
	one := func(n belfry.Notification, err error) (*reply[belfry.Notification], error) {
		if err != nil {
			return nil, err
		}
		return &reply[belfry.Notification]{Status: http.StatusOK, Body: n}, nil
	}
	route(s, spec{id: "getNotification", method: http.MethodGet, path: item, tag: "Notifications", may: auth.Read, summary: "Say how far one is"},
		func(ctx context.Context, c *call, in *ThingPath) (*reply[belfry.Notification], error) {
			return one(s.Manage.Notification(ctx, c.tenant(), string(in.ID)))
		})
	route(s, spec{id: "pauseNotification", method: http.MethodPost, path: item + "/pause", tag: "Notifications", may: auth.Admin, summary: "Make what was not sent yet wait"},
		func(ctx context.Context, c *call, in *cancelOne) (*reply[belfry.Notification], error) {
			return one(s.Manage.PauseNotification(ctx, c.by(), string(in.ID), in.Value.Because))
		})
	route(s, spec{id: "resumeNotification", method: http.MethodPost, path: item + "/resume", tag: "Notifications", may: auth.Admin, summary: "Go on", detail: "Nobody is told twice."},
		func(ctx context.Context, c *call, in *resuming) (*reply[belfry.Notification], error) {
			return one(s.Manage.ResumeNotification(ctx, c.by(), string(in.ID)))
		})
	route(s, spec{id: "cancelNotification", method: http.MethodPost, path: item + "/cancel", tag: "Notifications", may: auth.Admin, summary: "End one", detail: "What is being sent at this moment may still arrive; nothing else does."},
		func(ctx context.Context, c *call, in *resuming) (*reply[belfry.Notification], error) {
			return one(s.Manage.CancelNotification(ctx, c.by(), string(in.ID)))
		})
}
