package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/belfryhq/belfry/internal/client"
	"github.com/belfryhq/belfry/internal/config"
)

// settings are the flags of commands that read the configuration. Those not
// named here are set with --set.
type settings struct {
	Config    string   `short:"c" placeholder:"FILE" env:"BELFRY_CONFIG" help:"Configuration file; belfry.yaml in this folder when there is one."`
	Listen    *string  `placeholder:"HOST:PORT" help:"Address to listen on (127.0.0.1:8420)."`
	DataDir   *string  `placeholder:"FOLDER" help:"Folder for the database and the secret key (belfry-data)."`
	Database  *string  `placeholder:"URL" help:"sqlite:folder or postgres://user:password@host/name; empty: SQLite in the data folder."`
	PublicURL *string  `name:"public-url" placeholder:"URL" help:"Address under which people reach this server."`
	Roles     *string  `placeholder:"LIST" help:"What this process does, of api, plan, deliver, source (all), where several share a PostgreSQL database."`
	LogLevel  *string  `placeholder:"LEVEL" help:"debug, info, warn or error."`
	LogFormat *string  `placeholder:"FORM" help:"text or json."`
	Set       []string `sep:"none" placeholder:"KEY=VALUE" help:"Set any other key (docs/configuration.md); may be repeated."`
}

func (s *settings) load(w world) (config.Config, error) {
	flags := map[string]string{}
	for _, kv := range s.Set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return config.Config{}, usage{fmt.Errorf("--set %s: write it like --set log.level=debug", kv)}
		}
		flags[key] = value
	}
	for key, value := range map[string]*string{"listen": s.Listen, "data_dir": s.DataDir, "database": s.Database, "public_url": s.PublicURL, "nodes.roles": s.Roles, "log.level": s.LogLevel, "log.format": s.LogFormat} {
		if value != nil {
			flags[key] = *value
		}
	}
	return config.Load(config.Sources{File: s.Config, Environ: w.environ, Flags: flags})
}

func logger(c *config.Config, to io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level()}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, o))
	}
	return slog.New(slog.NewTextHandler(to, o))
}

// remote are the flags of commands that work on a running server.
type remote struct {
	Server string `short:"s" env:"BELFRY_SERVER" default:"http://127.0.0.1:8420" placeholder:"URL" help:"Address of the server (${default})."`
	Key    string `env:"BELFRY_KEY" placeholder:"KEY" help:"Key to use."`
	Tenant string `env:"BELFRY_TENANT" placeholder:"NAME" help:"Tenant to work on, for root keys."`
	form
}

func (r *remote) client() (*client.Client, error) {
	if r.Key == "" {
		return nil, usage{fmt.Errorf("which key? Set BELFRY_KEY or give --key; the server's first start printed one")}
	}
	c, err := client.New(r.Server, r.Key, r.Tenant)
	if err != nil {
		return nil, usage{err}
	}
	return c, nil
}
