package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testdb"
)

func verify(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

func TestSQLite(t *testing.T)   { storetest.Run(t, storetest.SQLitePlace) }
func TestPostgres(t *testing.T) { storetest.Run(t, storetest.PostgresPlace) }
