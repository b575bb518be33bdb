package outbound

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Setting is the setting that allows addresses, as people write it.
const Setting = "BELFRY_OUTBOUND_ALLOW"

// Options bound what a Guard lets through. Zero values are the defaults.
type Options struct {
	Allow []netip.Prefix // may be reached although private; any port

	ConnectTimeout  time.Duration // TCP, all addresses of a name together; default 10 s
	TLSTimeout      time.Duration // default 10 s
	ResponseTimeout time.Duration // from the request to the answer's headers; default 90 s, the backstop behind callers' own deadlines
	IdleTimeout     time.Duration // of a kept connection; default 90 s
	MaxIdlePerHost  int           // default 512
	MaxHeaderBytes  int64         // of an answer; default 64 KiB

	Resolver *net.Resolver // nil = the system's
	TLS      *tls.Config   // extra roots and the like; nil = the system's
}

// Refused is the error of a connection that the guard did not allow.
type Refused struct {
	Addr netip.AddrPort
	Why  string
}

func (e *Refused) Error() string {
	return fmt.Sprintf("connecting to %s is refused: %s; an operator can allow it with %s", e.Addr.Addr(), e.Why, Setting)
}

// Guard dials and sends under the package's promises.
type Guard struct {
	judge  func(netip.Addr) error
	dialer *net.Dialer
	client *http.Client
}

// New makes a Guard.
func New(o Options) *Guard {
	orElse := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orElse(&o.ConnectTimeout, 10*time.Second)
	orElse(&o.TLSTimeout, 10*time.Second)
	orElse(&o.ResponseTimeout, 90*time.Second)
	orElse(&o.IdleTimeout, 90*time.Second)
	if o.MaxIdlePerHost <= 0 {
		o.MaxIdlePerHost = 512
	}
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	judge := judge(o.Allow)
	g := &Guard{judge: judge, dialer: &net.Dialer{
		Timeout:   o.ConnectTimeout,
		KeepAlive: 30 * time.Second,
		Resolver:  o.Resolver,
		Control:   control(judge),
	}}
	cfg := o.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if cfg.ClientSessionCache == nil {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(256)
	}
	g.client = &http.Client{
		Transport: &transport{direct: &direct{
			dial: g.dialer.DialContext, response: o.ResponseTimeout, idle: o.IdleTimeout,
			perHost: o.MaxIdlePerHost, maxHead: o.MaxHeaderBytes, kept: map[string][]*wire{},
		}, full: &http.Transport{
			Proxy:                  nil, // a proxy would dial for us, unguarded
			DialContext:            g.dialer.DialContext,
			TLSClientConfig:        cfg,
			TLSHandshakeTimeout:    o.TLSTimeout,
			ResponseHeaderTimeout:  o.ResponseTimeout,
			ExpectContinueTimeout:  time.Second,
			IdleConnTimeout:        o.IdleTimeout,
			MaxIdleConns:           0, // bounded per host and by IdleTimeout
			MaxIdleConnsPerHost:    o.MaxIdlePerHost,
			MaxResponseHeaderBytes: o.MaxHeaderBytes,
			ForceAttemptHTTP2:      true,
			// A caller who wants to read compressed answers says so itself:
			// an answer must not grow on our side.
			DisableCompression: true,
			WriteBufferSize:    4 << 10,
			ReadBufferSize:     4 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return g
}

// Client is the guarded HTTP client; all that the guard promises, but for the
// redirects, which a Transport does not follow anyway, is in its Transport.
func (g *Guard) Client() *http.Client { return g.client }

// Dialer is the guarded dialer.
func (g *Guard) Dialer() *net.Dialer { return g.dialer }

// Close drops idle connections; those in use end with their requests.
func (g *Guard) Close() { g.client.CloseIdleConnections() }

// Judge says of the host of a URL what connecting to it will say, as far as that
// is known without asking a name server: of an address, and of localhost. Names
// are judged when something is sent; an answer before would tell whoever may
// save one which names there are within, and where.
func (g *Guard) Judge(host string) error {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	a, err := netip.ParseAddr(strings.Trim(name, "[]"))
	switch {
	case err == nil:
	case name == "localhost" || strings.HasSuffix(name, ".localhost"):
		a = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	default:
		return nil
	}
	return g.judge(a.Unmap().WithZone(""))
}

// judge refuses addresses that are not allowed, with a Refused.
func judge(allow []netip.Prefix) func(netip.Addr) error {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		// 10.0.0.0/8 written as ::ffff:10.0.0.0/104 means the same hosts.
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Addr().Is4() {
			v4 = append(v4, p.Masked())
		} else {
			v6 = append(v6, p.Masked())
		}
	}
	guardian := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...))
	return func(a netip.Addr) error {
		if err := guardian.SafeAddr(a); err != nil {
			return &Refused{Addr: netip.AddrPortFrom(a, 0), Why: describe(a)}
		}
		return nil
	}
}

// control checks the address a socket is about to connect to, after the name
// was resolved.
func control(judge func(netip.Addr) error) func(network, address string, _ syscall.RawConn) error {
	return func(network, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return &Refused{Why: fmt.Sprintf("%q is not an address", address)}
		}
		// A socket for an IPv4-mapped address connects to the IPv4 host: it is
		// judged as that. A zone only names an interface.
		at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
		if network != "tcp4" && network != "tcp6" {
			return &Refused{Addr: at, Why: network + " is not TCP"}
		}
		if err := judge(at.Addr()); err != nil {
			return &Refused{Addr: at, Why: describe(at.Addr())}
		}
		return nil
	}
}

// describe says what kind of address a refused one is.
func describe(a netip.Addr) string {
	switch {
	case a == netip.AddrFrom4([4]byte{169, 254, 169, 254}), a == netip.MustParseAddr("fd00:ec2::254"):
		return "it is a cloud metadata address"
	case a.IsUnspecified():
		return "it is the unspecified address, which means this machine"
	case a.IsLoopback():
		return "it is a loopback address, which means this machine"
	case a.IsPrivate():
		return "it is a private address"
	case a.IsLinkLocalUnicast():
		return "it is a link-local address"
	case a.IsMulticast():
		return "it is a multicast address"
	}
	return "it is not a public address"
}

// ParseAllow reads Setting: CIDRs or single addresses, separated by commas or
// white space.
func ParseAllow(list string) ([]netip.Prefix, error) {
	fields := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
	allow := make([]netip.Prefix, 0, len(fields))
	for _, f := range fields {
		p, err := netip.ParsePrefix(f)
		if err != nil {
			a, aerr := netip.ParseAddr(f)
			if aerr != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%s: %q is neither a CIDR such as 10.0.0.0/8 nor an address", Setting, f)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		allow = append(allow, p.Masked())
	}
	return allow, nil
}
