-- SPDX-License-Identifier: Apache-2.0
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
BEGIN;
INSERT INTO item WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000)
    SELECT i, (i * 7919) % 101, printf('item %05d', (i * 104729) % 99991), ((i * 31337) % 10007) / 7.0 FROM n;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_kind ON item(kind, price);
COMMIT;
SELECT kind, count(*), printf('%.9f', sum(price)), min(name), max(name) FROM item GROUP BY kind ORDER BY 3 DESC LIMIT 30;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name WHERE a.id <> b.id;
SELECT a.name, b.name FROM item a JOIN item b ON b.kind = a.kind AND b.price BETWEEN a.price AND a.price + 1
    WHERE a.kind = 17 ORDER BY a.id, b.id LIMIT 200;
UPDATE item SET price = price * 1.1, name = upper(name) WHERE kind % 3 = 0;
DELETE FROM item WHERE id % 13 = 5;
SELECT count(*), printf('%.9f', total(price)), sum(length(name)), group_concat(DISTINCT kind % 10) FROM item;
SELECT name, rank() OVER (PARTITION BY kind ORDER BY price DESC, id) AS r FROM item WHERE name LIKE '%77%' ORDER BY id LIMIT 100;
PRAGMA integrity_check;
