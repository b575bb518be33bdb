package app

import (
	"context"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/manage"
	"github.com/belfryhq/belfry/internal/pipeline"
	"github.com/belfryhq/belfry/internal/render"
	"github.com/belfryhq/belfry/internal/web/api"
)

// channelKinds are the kinds of channels as manage knows them.
type channelKinds struct{}

func (channelKinds) Kinds() []manage.Kind {
	var out []manage.Kind
	for _, k := range Kinds() {
		if k.Operator {
			continue // nobody sets one up here
		}
		v := manage.Kind{Name: k.Name, Title: k.Title, Help: k.Help, Contact: k.Contact, Settings: []manage.Setting{}}
		for _, s := range k.All() {
			v.Settings = append(v.Settings, manage.Setting(s))
		}
		out = append(out, v)
	}
	return out
}

func (channelKinds) Check(kind string, settings map[string]string) error {
	for _, k := range Kinds() {
		if k.Name == kind {
			return channel.Validate(k.All(), settings)
		}
	}
	return belfry.Errorf(belfry.Invalid, "there is no channel kind %q", kind)
}

// sourceKinds are the kinds of sources as manage knows them.
type sourceKinds struct{}

func (sourceKinds) Kinds() []manage.Kind {
	var out []manage.Kind
	for _, k := range Connectors() {
		v := manage.Kind{Name: k.Name, Title: k.Title, Settings: []manage.Setting{}}
		for _, s := range k.Settings {
			v.Settings = append(v.Settings, manage.Setting{
				Name: s.Name, Label: s.Label, Type: s.Type, Secret: s.Secret, Required: s.Required, Help: s.Help, Default: s.Default,
			})
		}
		out = append(out, v)
	}
	return out
}

func (sourceKinds) Check(kind string, settings map[string]string) error {
	for _, k := range Connectors() {
		if k.Name == kind {
			values, err := connector.Values(k.Settings, settings)
			if err != nil {
				return err
			}
			_, err = k.New(connector.Deps{Name: "check", Kind: k.Name, Now: (&clock{}).now}, values)
			return err
		}
	}
	return belfry.Errorf(belfry.Invalid, "there is no connector kind %q", kind)
}

// running reaches what runs, for the API's test calls and status.
type running struct {
	app      *App
	messages *pipeline.Messages
}

// sendTest bounds a test send: somebody waits for the answer.
const sendTest = 20 * time.Second

func testEvent() *belfry.Accepted {
	at := (&clock{}).now()
	return &belfry.Accepted{EventID: belfry.EventID(at, 0, 0), At: at, Event: &belfry.Event{
		ID: "test", Source: "belfry", Type: pipeline.NoticePrefix + "test", Time: at, Data: jsonObject("text", "This is a test message from Belfry."),
	}}
}

// TestEndpoint sends a test webhook now.
func (r *running) TestEndpoint(ctx context.Context, tenant, id string) (belfry.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTest)
	defer cancel()
	acc := testEvent()
	acc.Tenant = tenant
	d := &belfry.Delivery{
		Tenant: tenant, EventID: acc.EventID, ID: belfry.NewID(belfry.DeliveryPrefix, acc.At),
		Channel: belfry.ChannelWebhook, Address: id, Destination: id,
	}
	c, err := r.messages.Compose(ctx, d, pipeline.NewPayload(acc))
	if err != nil {
		return belfry.Outcome{}, err
	}
	if c.Drop != nil {
		if c.Drop.Code == belfry.EndpointUnknown {
			return belfry.Outcome{}, belfry.Errorf(belfry.NotFound, "there is no endpoint %s", id)
		}
		return belfry.Outcome{}, belfry.Errorf(belfry.Conflict, "nothing was sent: %s", c.Drop.Text())
	}
	if c.Wait {
		return belfry.Outcome{}, belfry.Errorf(belfry.Conflict, "nothing was sent: the endpoint is paused; resume it first")
	}
	ch, _ := r.app.channels.Channel(tenant, belfry.ChannelWebhook)
	return ch.Sender.Send(ctx, c.Target, c.Message), nil
}

// TestChannel sends a test message to an address now.
func (r *running) TestChannel(ctx context.Context, tenant, name, address string) (belfry.Outcome, error) {
	if _, known := r.app.channels.of(tenant).byName[name]; !known {
		return belfry.Outcome{}, belfry.Errorf(belfry.NotFound, "there is no channel %s", name)
	}
	ch, ok := r.app.channels.Channel(tenant, name)
	if !ok || name == belfry.ChannelWebhook {
		return belfry.Outcome{}, belfry.Errorf(belfry.Invalid, "channel %s sends to no addresses; test endpoints with POST /v1/endpoints/{id}/test", name)
	}
	if address == "" && r.app.channels.of(tenant).byName[name].kind.Contact != "" {
		return belfry.Outcome{}, belfry.Faults([]belfry.Field{{Pointer: "/address", Message: "is required: where to send the test"}})
	}
	return sendTestMessage(ctx, ch.Sender, address), nil
}

// sendTestMessage sends a test message to an address now.
func sendTestMessage(ctx context.Context, by channel.Sender, address string) belfry.Outcome {
	ctx, cancel := context.WithTimeout(ctx, sendTest)
	defer cancel()
	acc := testEvent()
	msg := render.Default().Mail(render.Item{Event: acc.Event, EventID: acc.EventID, TypeTitle: "Test message"}, render.Links{})
	msg.ID = belfry.NewID(belfry.DeliveryPrefix, acc.At)
	return by.Send(ctx, channel.Target{Address: address}, &msg)
}

// EndpointStatus is what the dispatcher knows of an endpoint.
func (r *running) EndpointStatus(tenant, id string) api.EndpointStatus {
	st, known := r.app.dispatcher.Destination(tenant, belfry.ChannelWebhook, id)
	if !known {
		return api.EndpointStatus{Breaker: "closed"}
	}
	out := api.EndpointStatus{
		Known: true, Breaker: st.Breaker, Failures: st.Failures, Sending: st.Sending, Concurrency: st.Concurrency, Queued: st.Queued,
		OnDisk: st.OnDisk, Slow: st.Slow, Paused: st.Paused,
	}
	if !st.FailingSince.IsZero() {
		out.FailingSince = &st.FailingSince
	}
	if !st.NextProbe.IsZero() {
		out.NextProbe = &st.NextProbe
	}
	return out
}

// SourceStatus is how a source is doing.
func (r *running) SourceStatus(tenant, id string) (api.SourceStatus, bool) {
	st, ok := r.app.sources.Status(tenant, id)
	if !ok {
		return r.elsewhere(tenant, id)
	}
	out := api.SourceStatus{State: st.State, At: &st.At, Position: st.Position, LagMS: st.Lag.Milliseconds(), Error: st.Error, Counters: st.Counters}
	if !st.ErrorAt.IsZero() {
		out.ErrorAt = &st.ErrorAt
	}
	return out, true
}

// elsewhere says which other node runs a source.
func (r *running) elsewhere(tenant, id string) (api.SourceStatus, bool) {
	if r.app.cluster == nil {
		return api.SourceStatus{}, false
	}
	table := r.app.cluster.Table()
	for _, lease := range table.Leases {
		if lease.Kind != belfry.LeaseSource || lease.Shard != (sourceKey{tenant, id}).shard() || lease.Owner == r.app.cluster.ID() {
			continue
		}
		for i := range table.Nodes {
			if n := &table.Nodes[i]; n.ID == lease.Owner {
				return api.SourceStatus{State: "elsewhere", Position: "node " + n.ID + " on " + n.Name + " runs it: ask it at " + n.Address}, true
			}
		}
	}
	return api.SourceStatus{}, false
}
