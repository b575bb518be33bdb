package channel

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Kind is a way out: a protocol and the settings that open it.
type Kind struct {
	Name     string // stable, e.g. "email"
	Title    string // for people, e.g. "E-mail (SMTP)"
	Help     string // one or two sentences
	Contact  string // kind of contact (belfry.Contact.Kind) whose address it sends to; empty = none (inbox, webhook)
	Operator bool   // only the server's configuration may set one up
	Settings []Setting
	// New opens a Sender with settings that passed Validate (it completes
	// defaults itself). It does not talk to the peer: a relay that is away
	// must not stop the server from starting. Nil for kinds without a Sender,
	// whose delivery is a row of the store.
	New func(Deps, map[string]string) (Sender, error)
}

// Sender sends messages. See the package's promises.
type Sender interface {
	// Send sends m to target and says how it ended. The time it may take is
	// ctx's deadline.
	Send(ctx context.Context, target Target, m *belfry.Message) belfry.Outcome
	Close() error
}

// Target is the destination of one send.
type Target struct {
	Address string            // mailbox, number, token ...; empty for endpoints
	Name    string            // the recipient's display name; may be empty
	Keys    map[string]string // of the contact, e.g. Web Push keys
	// Endpoint is the webhook's configuration; nil on other channels.
	Endpoint *belfry.Endpoint
	// Secrets are the clear signing keys that are valid now, first one first:
	// the raw bytes of an HMAC key (whsec_), or "whsk_" and the 32 bytes of an
	// ed25519 seed, as secret.ParseWebhookSecret gives them.
	Secrets [][]byte
}

// Dialer opens connections; *net.Dialer is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Deps are what a Sender is given of the house; all are needed.
type Deps struct {
	// HTTP is the guarded client of package outbound: it refuses forbidden
	// addresses at connect time, follows no redirects and uses no proxy. All
	// of that is in its Transport, so a Sender may use the Transport alone.
	HTTP *http.Client
	// Dialer is for protocols that are not HTTP.
	Dialer  Dialer
	Log     *slog.Logger
	Now     func() time.Time
	Version string // Belfry's version, for User-Agent and the like
}
