package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to make and drop databases of its own on the server it was given

	"github.com/belfryhq/belfry/internal/config"
)

// place is where one server of the benchmark keeps its data; it is the
// benchmark's own and goes with it.
type place struct {
	dir    string // data folder
	url    string // PostgreSQL; empty = SQLite in dir
	secret string
}

// places makes them and removes them all.
type places struct {
	root  string
	admin string // URL of the PostgreSQL server given; empty = SQLite
	made  []string
	count int
}

func newPlaces(admin string) (*places, error) {
	root, err := os.MkdirTemp("", "belfry-bench-")
	return &places{root: root, admin: admin}, err
}

func (p *places) next(ctx context.Context) (place, error) {
	p.count++
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	pl := place{dir: filepath.Join(p.root, fmt.Sprint("data-", p.count)), secret: base64.StdEncoding.EncodeToString(secret)}
	if err := os.Mkdir(pl.dir, 0o700); err != nil {
		return place{}, err
	}
	if p.admin == "" {
		return pl, nil
	}
	u, err := url.Parse(p.admin)
	if err != nil {
		return place{}, fmt.Errorf("the database is no URL: %w", err)
	}
	name := fmt.Sprintf("belfry_bench_%s_%d", hex.EncodeToString(secret[:4]), p.count)
	if err = p.execute(ctx, "CREATE DATABASE "+name); err != nil {
		return place{}, fmt.Errorf("bench works in databases of its own and drops them; this role cannot make one (grant it CREATEDB): %w", err)
	}
	p.made = append(p.made, name)
	u.Path = "/" + name
	pl.url = u.String()
	return pl, nil
}

func (p *places) execute(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", p.admin)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// empty removes what is at a place nobody works in any more: the next one may
// need the room.
func (p *places) empty(pl place) {
	_ = os.RemoveAll(pl.dir)
	if i := slices.IndexFunc(p.made, func(name string) bool { return strings.HasSuffix(pl.path(), "/"+name) }); i >= 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if p.execute(ctx, "DROP DATABASE IF EXISTS "+p.made[i]+" WITH (FORCE)") == nil {
			p.made = slices.Delete(p.made, i, i+1)
		}
	}
}

// path is that of the place's URL.
func (pl *place) path() string {
	u, err := url.Parse(pl.url)
	if err != nil {
		return ""
	}
	return u.Path
}

func (p *places) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, name := range p.made {
		_ = p.execute(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	_ = os.RemoveAll(p.root)
}

// config is the configuration of a server there.
func (pl *place) config(key string) config.Config {
	c := config.Default()
	c.Listen = "127.0.0.1:0"
	c.DataDir = pl.dir
	c.Database = config.URL(pl.url)
	c.SecretKey = []config.Secret{config.Secret(pl.secret)}
	c.BootstrapKey = config.Secret(key)
	c.OutboundAllow = []string{"127.0.0.0/8"}
	c.Log.Level = "error"
	return c
}

// environ is the same as variables of a process.
func (pl *place) environ(key string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + pl.dir, "TMPDIR=" + pl.dir,
		"BELFRY_LISTEN=127.0.0.1:0", "BELFRY_DATA_DIR=" + pl.dir, "BELFRY_DATABASE=" + pl.url,
		"BELFRY_SECRET_KEY=" + pl.secret, "BELFRY_BOOTSTRAP_KEY=" + key,
		"BELFRY_OUTBOUND_ALLOW=127.0.0.0/8", "BELFRY_LOG_LEVEL=info", "BELFRY_LOG_FORMAT=json",
	}
}
